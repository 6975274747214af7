variable "audience" {
  type        = string
  description = "What tokens for this registry name as their audience: the registry's host name, such as `registry.example.com`. A job asks GitHub for a token with exactly this audience."

  validation {
    condition     = can(regex("^[a-z0-9.-]+(:[0-9]+)?$", var.audience))
    error_message = "audience is the registry's host name as clients type it: write \"registry.example.com\", without https://."
  }
}

variable "issuer" {
  type        = string
  default     = "github"
  description = "The name of GitHub in the policy. Two modules in one policy need two names."

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", var.issuer))
    error_message = "issuer is a short name such as \"github\"; the address belongs into url."
  }
}

variable "url" {
  type        = string
  default     = "https://token.actions.githubusercontent.com"
  description = "Who signs the tokens, as their `iss` says. For a GitHub Enterprise Server `https://HOST/_services/token`."

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[^\\s?#]*[^\\s?#/])?$", var.url))
    error_message = "url is the issuer as tokens name it, letter by letter: \"https://token.actions.githubusercontent.com\", or \"https://HOST/_services/token\" for an Enterprise Server; no slash at the end."
  }
}

variable "trusts" {
  type = list(object({
    name          = string
    repository_id = string
    owner_id      = optional(string)
    ref           = optional(string)
    environment   = optional(string)
    events        = optional(list(string))
    push          = optional(list(string), [])
    pull          = optional(list(string), [])
    token_seconds = optional(number, 3600)
  }))
  description = <<-EOT
    Whom to trust, and with what; one rule of the policy each.
    `name`: the rule's name, which a refused job is told.
    `repository_id`, `owner_id`: the numbers that survive a rename and cannot be taken over with a name: `gh api repos/OWNER/NAME --jq '.id, .owner.id'`.
    `ref`: a branch or tag such as `refs/heads/main` or `refs/tags/v*` (`*` does not cross a slash). `environment`: a deployment environment, whose protection rules GitHub then enforces.
    `events`: such as `["push", "workflow_dispatch"]`; without it all, but for whoever may push by environment alone: `push`, `workflow_dispatch` and `release`.
    `push`, `pull`: repositories of the registry, such as `acme/app` or `acme/app/**`. Whoever may push may pull there too.
    `token_seconds`: how long one sign-in lasts, 60 to 86400; as long as the longest push takes.
  EOT

  validation {
    condition     = length(var.trusts) > 0 && length(distinct(var.trusts[*].name)) == length(var.trusts)
    error_message = "trusts has at least one entry, and each has a name of its own, as the names tell rules apart."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : can(regex("^[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,98}[A-Za-z0-9])?$", trust.name))])
    error_message = "A name in trusts is a few words, such as \"main-branch-pushes-app\"."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : can(regex("^[0-9]+$", trust.repository_id)) && can(regex("^[0-9]+$", coalesce(trust.owner_id, "0")))])
    error_message = "repository_id and owner_id are numbers: `gh api repos/OWNER/NAME --jq '.id, .owner.id'` prints both. A name could be registered by somebody else after a rename."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : length(trust.push) + length(trust.pull) > 0])
    error_message = "An entry of trusts says what for: push = [\"acme/app\"], or pull = [\"acme/**\"]."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : length(trust.push) == 0 || trust.ref != null || trust.environment != null])
    error_message = "Who may push says from where: ref = \"refs/heads/main\", or environment = \"production\". Otherwise every branch of the repository could push, reviewed or not."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : length(trust.push) == 0 || length(setintersection(coalesce(trust.events, ["push"]), ["pull_request", "pull_request_target", "issue_comment"])) == 0])
    error_message = "Events that strangers can cause may not push: take pull_request, pull_request_target and issue_comment out of events."
  }

  validation {
    condition     = alltrue(flatten([for trust in var.trusts : [for glob in concat(trust.push, trust.pull) : can(regex("^[a-z0-9*][a-z0-9*._/-]*$", glob)) && !contains(["**", "*"], glob)]]))
    error_message = "push and pull have repositories of the registry, such as \"acme/app\" or \"acme/app/**\": lower case, without host and tag, and not all repositories at once."
  }

  validation {
    condition     = alltrue([for trust in var.trusts : trust.token_seconds >= 60 && trust.token_seconds <= 86400])
    error_message = "token_seconds is 60 to 86400: how long one sign-in lasts, such as 3600."
  }
}
