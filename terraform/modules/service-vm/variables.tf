variable "domain" {
  type        = string
  description = "The name that clients type, such as `registry.example.com`. Its A (and AAAA) record must point at the machine before it starts, as the certificate is issued for it."

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]*[a-z0-9]$", var.domain))
    error_message = "domain is a host name alone, in lower case and with a dot: write \"registry.example.com\", without https:// and without a port."
  }
}

variable "image" {
  type        = string
  description = "edgeproxy's own image, with the host it lies on: `registry.example.com/edgeproxy:1`. With a tag, the machine follows the tag to each new digest; with a digest (`@sha256:...`), it stays there."

  validation {
    condition     = can(regex("^([a-z0-9-]+(\\.[a-z0-9-]+)+(:[0-9]+)?|[a-z0-9-]+:[0-9]+)/[a-z0-9._/-]+(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image names host, repository, and a tag or a digest: write \"registry.example.com/edgeproxy:1\" or \"registry.example.com/edgeproxy@sha256:...\". Without a host, podman would not know where to look."
  }
}

variable "store" {
  type        = string
  description = "Where the objects lie, as `EDGEPROXY_STORE` takes it: `r2://ACCOUNT_ID/bucket` or `s3://bucket?region=eu-central-1`."

  validation {
    condition     = can(regex("^(r2://[0-9a-f]{32}/[a-z0-9]|s3://[a-z0-9])[^\\s@]*$", var.store))
    error_message = "store is a bucket: write \"r2://ACCOUNT_ID/bucket\" (the id has 32 hexadecimal digits) or \"s3://bucket?region=eu-central-1\". Keys do not belong here: see credentials."
  }
}

variable "policy" {
  type        = string
  default     = "store:"
  description = "Who may do what: the text of a policy document, or `store:` for the object `config/policy.yaml` in the bucket. The one in the bucket can be changed without a new machine."

  validation {
    condition     = var.policy == "store:" || can(tonumber(yamldecode(var.policy).version))
    error_message = "policy is the text of a policy document, which begins with version: 1, or \"store:\". For a file write file(\"policy.yaml\"), not its name."
  }
}

variable "policy_files" {
  type        = map(string)
  default     = {}
  description = "Files that the policy names, such as a cluster's keys or a company's CA: name to content. They lie beside the policy."

  validation {
    condition     = alltrue([for name in keys(var.policy_files) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", name)) && name != "policy.yaml"])
    error_message = "policy_files has plain file names, such as \"cluster-jwks.json\": no folders, and not policy.yaml, which is the policy itself."
  }

  validation {
    condition     = var.policy != "store:" || length(var.policy_files) == 0
    error_message = "policy_files lie beside a policy on the machine. A policy in the bucket has its keys inline: take policy_files out, or give the text of the policy."
  }
}

variable "credentials" {
  type = object({
    from    = string
    command = optional(string)
  })
  default     = { from = "role" }
  description = <<-EOT
    Where the keys of the bucket come from. None of the three puts them into the state or into the user data.
    `{ from = "role" }`: from the role of the machine (an instance profile on AWS).
    `{ from = "command", command = "..." }`: the command is run by sh as root before each start and prints lines `AWS_ACCESS_KEY_ID=...` and
    `AWS_SECRET_ACCESS_KEY=...`; they stay in memory (`/run`).
    `{ from = "file" }`: edgeproxy starts once somebody has written these lines to `/etc/edgeproxy/credentials.env`, mode 0600, and again whenever that file changes.
  EOT

  validation {
    condition     = contains(["role", "command", "file"], var.credentials.from)
    error_message = "credentials.from is \"role\", \"command\" or \"file\"."
  }

  validation {
    condition     = (var.credentials.from == "command") == (try(trimspace(var.credentials.command), "") != "")
    error_message = "credentials.command belongs to from = \"command\", and only there: write what prints AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=..., such as \"aws ssm get-parameter --with-decryption --name /registry/r2 --query Parameter.Value --output text\"."
  }

  validation {
    condition     = !can(regex("[A-Za-z0-9/+]{40}", coalesce(var.credentials.command, "-"))) || !can(regex("SECRET", coalesce(var.credentials.command, "-")))
    error_message = "credentials.command seems to hold the secret itself, and it would lie in the state and in the user data. Have it fetch the secret from where secrets are kept."
  }
}

variable "signing_keys_path" {
  type        = string
  default     = null
  description = "Folder of signing keys (`KID.pem`) that you bring, such as one on a disk that outlives the machine. Without it, a key is made on the first start and never leaves the machine. Several machines behind one name need the same keys."

  validation {
    condition     = var.signing_keys_path == null || can(regex("^/[A-Za-z0-9._/-]*[A-Za-z0-9]$", var.signing_keys_path))
    error_message = "signing_keys_path is a folder on the machine, from the root: write \"/mnt/keys\". The keys themselves do not belong here, as they would lie in the state."
  }
}

variable "settings" {
  type        = map(string)
  default     = {}
  description = "More settings of edgeproxy by their names, such as `{ EDGEPROXY_REDIRECT_SECONDS = \"120\" }`, and of the AWS SDK, such as `AWS_REGION`."

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^(EDGEPROXY|AWS)_[A-Z0-9_]+$", name))])
    error_message = "settings has names that begin with EDGEPROXY_ or AWS_, such as EDGEPROXY_REDIRECT_SECONDS; `edgeproxy serve --help` lists them."
  }

  validation {
    condition = length(setintersection(keys(var.settings), [
      "EDGEPROXY_BIND", "EDGEPROXY_PUBLIC_URL", "EDGEPROXY_STORE", "EDGEPROXY_POLICY", "EDGEPROXY_SIGNING_KEYS",
      "EDGEPROXY_TRUSTED_PROXIES", "EDGEPROXY_AUDIT", "EDGEPROXY_OPERATIONS_BIND",
    ])) == 0
    error_message = "settings may not set what the module sets: use domain, store, policy and signing_keys_path. Addresses, trusted proxies and audit follow from how the machine is built."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])) == 0
    error_message = "settings lie in the state and in the user data, so keys of the bucket do not belong here: see credentials."
  }

  validation {
    condition     = alltrue([for value in values(var.settings) : !can(regex("[\\r\\n]", value))])
    error_message = "A value of settings is one line."
  }
}

variable "upgrade_at" {
  type        = string
  default     = "*-*-* 03:30:00"
  description = "When the machine looks for a new digest behind the image's tag, as systemd writes times (`man systemd.time`); half an hour of chance is added. null: never, only by `edgeproxy-vm upgrade`."

  validation {
    condition     = var.upgrade_at == null || can(regex("^[A-Za-z0-9*,./:~ -]+$", var.upgrade_at))
    error_message = "upgrade_at is a time as systemd writes it, on one line: \"*-*-* 03:30:00\" for each night, \"Sun 04:00\" for Sundays, or null for never."
  }
}

variable "certificate" {
  type        = string
  default     = "public"
  description = "`public`: from a public authority by ACME, kept up by Caddy. `internal`: from an authority of this machine alone, which clients have to be told to trust: for trying things out where no public name exists."

  validation {
    condition     = contains(["public", "internal"], var.certificate)
    error_message = "certificate is \"public\" or \"internal\". There is no way to serve without one: clients would send tokens in the clear."
  }
}

variable "acme_email" {
  type        = string
  default     = null
  description = "Where the certificate authority writes to when a certificate is about to end."

  validation {
    condition     = var.acme_email == null || can(regex("^[^@\\s{}\"]+@[^@\\s{}\"]+\\.[^@\\s{}\"]+$", var.acme_email))
    error_message = "acme_email is one address: write \"ops@example.com\", or leave it out."
  }
}

variable "ssh_from" {
  type        = list(string)
  default     = []
  description = "Networks that may reach the machine by SSH, such as `[\"192.0.2.0/24\"]`. Without any, only ports 80 and 443 are open."

  validation {
    condition     = alltrue([for network in var.ssh_from : can(cidrhost(network, 0)) && !endswith(network, "/0")])
    error_message = "ssh_from has networks such as \"192.0.2.0/24\", or \"192.0.2.7/32\" for one address. The whole internet is not accepted."
  }
}

variable "packages" {
  type        = list(string)
  default     = []
  description = "More Debian packages for the machine, such as `awscli` for what credentials.command runs."

  validation {
    condition     = alltrue([for package in var.packages : can(regex("^[a-z0-9][a-z0-9+.-]+$", package))])
    error_message = "packages has names of Debian packages, such as \"awscli\"."
  }
}
