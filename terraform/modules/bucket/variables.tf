variable "name" {
  description = "Name of the bucket: 3 to 63 lower-case letters, digits and dashes. On S3 it is unique in the world. A new name is a new bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 63 lower-case letters, digits and dashes, with a letter or digit at both ends, such as \"acme-registry\". Dots are not taken: they break TLS to the bucket's host name."
  }
}

variable "store" {
  description = "What holds the bucket: `r2` (Cloudflare R2), `s3` (Amazon S3) or `other` (any server that speaks S3, at `endpoint`). The provider that the module is given must point there."
  type        = string

  validation {
    condition     = contains(["r2", "s3", "other"], var.store)
    error_message = "store must be \"r2\", \"s3\" or \"other\"."
  }
}

variable "account_id" {
  description = "R2 only: the Cloudflare account's id, 32 hexadecimal digits, which the R2 overview of the dashboard shows."
  type        = string
  default     = null

  validation {
    condition     = var.account_id == null || can(regex("^[0-9a-f]{32}$", var.account_id))
    error_message = "account_id must be 32 hexadecimal digits in lower case; the R2 overview of the Cloudflare dashboard shows it."
  }

  validation {
    condition     = (var.store == "r2") == (var.account_id != null)
    error_message = "account_id is required where store is \"r2\", and means nothing elsewhere: write both or neither."
  }
}

variable "jurisdiction" {
  description = "R2 only: `default`, `eu`, `fedramp` or `us`. The endpoint of the provider must be that jurisdiction's. It cannot be changed later."
  type        = string
  default     = "default"

  validation {
    condition     = contains(["default", "eu", "fedramp", "us"], var.jurisdiction)
    error_message = "jurisdiction must be \"default\", \"eu\", \"fedramp\" or \"us\"."
  }

  validation {
    condition     = var.jurisdiction == "default" || var.store == "r2"
    error_message = "jurisdiction means something only where store is \"r2\": leave it out."
  }
}

variable "endpoint" {
  description = "Of `other` only: URL of the server, as the registry and its clients reach it."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint == null || can(regex("^https?://[A-Za-z0-9.:\\[\\]-]+$", var.endpoint))
    error_message = "endpoint must be scheme, host and port alone, such as \"https://s3.example.com\", with no slash at the end."
  }

  validation {
    condition     = (var.store == "other") == (var.endpoint != null)
    error_message = "endpoint is required where store is \"other\", and means nothing elsewhere: write both or neither."
  }
}

variable "prefix" {
  description = "Where in the bucket the registry lives, without slashes at the ends; empty for the whole bucket. Lifecycle rules and permissions are about this part only."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*)?$", var.prefix))
    error_message = "prefix must be components of letters, digits and !_.*'()- separated by single slashes, such as \"registry\" or \"prod/registry\", with no slash at the ends."
  }
}

variable "policy" {
  description = "The policy document, as text, put into the bucket as `config/policy.yaml`, where `EDGEPROXY_POLICY=store:` reads it; a change is in force within five seconds of the apply. Null: somebody else writes it."
  type        = string
  default     = null

  validation {
    condition     = var.policy == null || try(yamldecode(var.policy).version == 1, false)
    error_message = "policy must be the text of a policy document, which begins with `version: 1`: policy = file(\"policy.yaml\"). `edgeproxy policy lint policy.yaml` says what else may be wrong."
  }
}

variable "kms_key_arn" {
  description = "S3 only: ARN of the KMS key that encrypts the objects. Null: the keys of S3 itself (AES-256), which cost nothing."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, such as \"arn:aws:kms:eu-central-1:123456789012:key/...\". An alias is not taken."
  }

  validation {
    condition     = var.kms_key_arn == null || var.store == "s3"
    error_message = "kms_key_arn means something only where store is \"s3\": R2 encrypts by itself. Leave it out."
  }
}
