variable "audience" {
  type        = string
  description = "What tokens for this registry name as their audience: the registry's host name, such as `registry.example.com`. A pod asks for a token with exactly this audience."

  validation {
    condition     = can(regex("^[a-z0-9.-]+(:[0-9]+)?$", var.audience))
    error_message = "audience is the registry's host name as clients type it: write \"registry.example.com\", without https://."
  }
}

variable "issuer" {
  type        = string
  default     = "cluster"
  description = "The name of the cluster in the policy. Two clusters need two names."

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.issuer))
    error_message = "issuer is a short name such as \"production\"; the address belongs into url."
  }
}

variable "url" {
  type        = string
  description = "The issuer of the cluster's tokens, letter by letter: `kubectl get --raw /.well-known/openid-configuration | jq -r .issuer`. Of two clusters with the same one a policy can only list one."

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[^\\s?#]*)?$", var.url))
    error_message = "url is what `kubectl get --raw /.well-known/openid-configuration | jq -r .issuer` prints, such as \"https://kubernetes.default.svc\" or \"https://oidc.eks.eu-central-1.amazonaws.com/id/ABC\"."
  }

  validation {
    condition     = var.keys != null || !can(regex("^https://(kubernetes\\.default|[^/]*\\.(svc|local|internal)(:[0-9]+)?(/|$)|10\\.|192\\.168\\.)", var.url))
    error_message = "The registry cannot fetch keys from an address that exists in the cluster alone: give them as keys = { inline = file(\"cluster-jwks.json\") }, which `kubectl get --raw /openid/v1/jwks` prints."
  }
}

variable "keys" {
  type = object({
    inline    = optional(string)
    file      = optional(string)
    url       = optional(string)
    not_after = optional(string)
  })
  default     = null
  description = <<-EOT
    Where the cluster's keys come from. null: from the discovery document at `url`, which has to be reachable, as those of EKS, GKE and AKS are.
    Otherwise one of `inline` (the JWKS itself: `file("cluster-jwks.json")`, which `kubectl get --raw /openid/v1/jwks` prints; they are public keys),
    `file` (the name of a file beside the policy) or `url` (of a JWKS). `not_after`: a date from which on they are not used, as a reminder that they rotate.
  EOT

  validation {
    condition     = var.keys == null || length([for value in [try(var.keys.inline, null), try(var.keys.file, null), try(var.keys.url, null)] : value if value != null]) == 1
    error_message = "keys has exactly one of inline, file and url."
  }

  validation {
    condition     = try(var.keys.inline, null) == null || can([for key in jsondecode(var.keys.inline).keys : key.kty])
    error_message = "keys.inline is a JWKS, {\"keys\": [...]}: write file(\"cluster-jwks.json\") with what `kubectl get --raw /openid/v1/jwks` prints."
  }

  validation {
    condition     = !can(regex("\"(d|k)\"\\s*:", coalesce(try(var.keys.inline, null), "-")))
    error_message = "keys.inline holds a private key. What `kubectl get --raw /openid/v1/jwks` prints are public ones."
  }

  validation {
    condition     = can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", coalesce(try(var.keys.not_after, null), "2027-01-31")))
    error_message = "keys.not_after is a date such as \"2027-01-31\"."
  }
}

variable "max_token_age" {
  type        = string
  default     = "24h"
  description = "Tokens that were issued longer ago are refused, whatever their end says: a number with `s`, `m`, `h` or `d`. Projected tokens are renewed by the kubelet long before."

  validation {
    condition     = can(regex("^[1-9][0-9]{0,8}[smhd]$", var.max_token_age))
    error_message = "max_token_age is a number with its unit: \"1h\", \"24h\"."
  }
}

variable "ca_file" {
  type        = string
  default     = null
  description = "Name of a PEM file beside the policy with the authority that signed the certificate of `url`, if that is a private one."

  validation {
    condition     = var.ca_file == null || can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", var.ca_file))
    error_message = "ca_file is the name of a file beside the policy, such as \"cluster-ca.pem\", not its content."
  }
}

variable "trusts" {
  type = list(object({
    name             = string
    namespace        = string
    service_accounts = list(string)
    pull             = optional(list(string), [])
    push             = optional(list(string), [])
    deliver          = optional(string)
    token_seconds    = optional(number, 3600)
  }))
  description = <<-EOT
    Whom to trust, and with what; one rule of the policy each.
    `name`: the rule's name, which a refused caller is told.
    `namespace`: a namespace, or a glob such as `prod-*`. `service_accounts`: names in it, or globs.
    `pull`, `push`: repositories of the registry, such as `acme/app` or `acme/**`. Whoever may push may pull there too.
    `deliver`: `proxy` for a cluster that cannot reach the bucket. `token_seconds`: how long one sign-in lasts, 60 to 86400.
  EOT

  validation {
    condition     = length(var.trusts) > 0 && length(distinct(var.trusts[*].name)) == length(var.trusts)
    error_message = "trusts has at least one entry, and each has a name of its own, as the names tell rules apart."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : can(regex("^[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,98}[A-Za-z0-9])?$", trust.name))])
    error_message = "A name in trusts is a few words, such as \"production-pulls\"."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : can(regex("^[a-z0-9]([a-z0-9*-]*[a-z0-9*])?$", trust.namespace)) && trust.namespace != "*"])
    error_message = "namespace is the name of a namespace, or a glob that says which ones, such as \"prod-*\". Every namespace at once would trust whoever may start a pod anywhere."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : length(trust.service_accounts) > 0 && alltrue([for account in trust.service_accounts : can(regex("^[a-z0-9*]([a-z0-9*.-]*[a-z0-9*])?$", account))])])
    error_message = "service_accounts has names such as [\"deployer\"]; [\"*\"] means all of the namespace, written out on purpose."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : length(trust.push) + length(trust.pull) > 0])
    error_message = "An entry of trusts says what for: pull = [\"acme/**\"], or push = [\"acme/app\"]."
  }

  validation {
    condition     = alltrue(flatten([for trust in var.trusts : [for glob in concat(trust.push, trust.pull) : can(regex("^[a-z0-9*][a-z0-9*._/-]*$", glob)) && !contains(["**", "*"], glob)]]))
    error_message = "push and pull have repositories of the registry, such as \"acme/app\" or \"acme/**\": lower case, without host and tag, and not all repositories at once."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : contains(["redirect", "proxy"], coalesce(trust.deliver, "redirect"))])
    error_message = "deliver is \"redirect\" or \"proxy\"."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : trust.token_seconds >= 60 && trust.token_seconds <= 86400])
    error_message = "token_seconds is 60 to 86400: how long one sign-in lasts, such as 3600."
  }
}
