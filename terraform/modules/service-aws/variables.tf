variable "name" {
  description = "Name of everything that is made, and of the metrics: 1 to 20 lower-case letters, digits and dashes."
  type        = string
  default     = "edgeproxy"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "name must be 1 to 20 lower-case letters, digits and dashes, beginning with a letter and not ending with a dash, such as \"edgeproxy\" (a load balancer's name may have 32 characters)."
  }
}

variable "hostname" {
  description = "Host name of the registry, as clients type it. It may not lie above the store's host name, or clients would send their tokens there."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.hostname))
    error_message = "hostname must be a name such as \"registry.example.com\": lower case, with no https:// before it, and no port or path after it."
  }
}

variable "zone_id" {
  description = "Id of the Route 53 zone that holds `hostname`: certificate and record are made there. Null where the name lives elsewhere: then give `certificate_arn`, and point the name at the output `dns_name`."
  type        = string
  default     = null

  validation {
    condition     = var.zone_id == null || can(regex("^[A-Z0-9]{1,32}$", var.zone_id))
    error_message = "zone_id must be the id of a hosted zone, such as \"Z0123456789ABCDEFGHIJ\", not its name; `aws route53 list-hosted-zones` shows it (without /hostedzone/)."
  }

  validation {
    condition     = (var.zone_id == null) != (var.certificate_arn == null)
    error_message = "Give zone_id, so that certificate and DNS record are made, or certificate_arn, where your DNS is not Route 53; not both, and not neither."
  }
}

variable "certificate_arn" {
  description = "ARN of an issued ACM certificate for `hostname`, in the region of the load balancer, in place of `zone_id`."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+$", var.certificate_arn))
    error_message = "certificate_arn must be the ARN of an ACM certificate, such as \"arn:aws:acm:eu-central-1:123456789012:certificate/...\"."
  }
}

variable "vpc_id" {
  description = "Id of the VPC that holds all subnets."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC, such as \"vpc-0123456789abcdef0\"."
  }
}

variable "public_subnet_ids" {
  description = "Ids of the load balancer's subnets, in two zones or more, with a route to an internet gateway. `EDGEPROXY_TRUSTED_PROXIES` is set to their addresses: put nothing else there that you would not believe."
  type        = list(string)

  validation {
    condition     = length(distinct(var.public_subnet_ids)) >= 2 && alltrue([for id in var.public_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "public_subnet_ids must be the ids of two subnets or more, such as [\"subnet-0123456789abcdef0\", \"subnet-0123456789abcdef1\"], each in a zone of its own."
  }
}

variable "task_subnet_ids" {
  description = "Ids of the tasks' subnets, in two zones or more. They need a way out to the image, the store, the identity providers and AWS: a NAT gateway, or `tasks_public_ip` in public subnets."
  type        = list(string)

  validation {
    condition     = length(distinct(var.task_subnet_ids)) >= 2 && alltrue([for id in var.task_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "task_subnet_ids must be the ids of two subnets or more, such as [\"subnet-0123456789abcdef0\", \"subnet-0123456789abcdef1\"], each in a zone of its own."
  }
}

variable "tasks_public_ip" {
  description = "Whether tasks have public addresses: cheaper than a NAT gateway where their subnets are public. They are not reachable from outside either way, as their security group lets only the load balancer in."
  type        = bool
  default     = false
}

variable "client_cidrs" {
  description = "IPv4 networks that may reach the registry. The default is the internet; what callers may do is decided by their tokens."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : try(cidrsubnet(cidr, 0, 0) == cidr, false)])
    error_message = "client_cidrs must be networks such as \"203.0.113.0/24\", with no bits set after the prefix, and at least one."
  }
}

variable "image" {
  description = "The container image by digest: an upgrade is a new digest here, so that what runs is what was reviewed."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must be named by digest, such as \"123456789012.dkr.ecr.eu-central-1.amazonaws.com/edgeproxy@sha256:...\": a tag could move under you. `crane digest IMAGE:TAG` prints it."
  }
}

variable "image_repository_arn" {
  description = "ARN of the private ECR repository that holds the image, so that the tasks may pull it. Null for a public image."
  type        = string
  default     = null

  validation {
    condition     = var.image_repository_arn == null || can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/.+$", var.image_repository_arn))
    error_message = "image_repository_arn must be the ARN of an ECR repository, such as \"arn:aws:ecr:eu-central-1:123456789012:repository/edgeproxy\"."
  }
}

variable "architecture" {
  description = "`X86_64` or `ARM64`, as the image is built. ARM64 costs about a fifth less."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "architecture must be \"X86_64\" or \"ARM64\", in capitals."
  }
}

variable "store" {
  description = "The bucket as `EDGEPROXY_STORE` names it: the output `store` of the module bucket."
  type        = string

  validation {
    condition     = can(regex("^(r2://[0-9a-f]{32}/|s3://)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]([/?].*)?$", var.store))
    error_message = "store must be what the module bucket gives: \"r2://ACCOUNT_ID/bucket\" or \"s3://bucket?region=eu-central-1\"."
  }
}

variable "store_port" {
  description = "Port of the store's host, which the tasks may then reach besides 443. R2 and S3 have 443."
  type        = number
  default     = 443

  validation {
    condition     = var.store_port >= 1 && var.store_port <= 65535 && floor(var.store_port) == var.store_port
    error_message = "store_port must be a whole number from 1 to 65535: the port in the endpoint of the store."
  }
}

variable "bucket_arn" {
  description = "S3: ARN of the bucket, which the tasks may then use by their role, with no credential. Null elsewhere."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_arn == null || can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", var.bucket_arn))
    error_message = "bucket_arn must be the ARN of a bucket, such as \"arn:aws:s3:::acme-registry\", with nothing after the name."
  }

  validation {
    condition     = (var.bucket_arn == null) != (var.store_credentials_secret_arn == null)
    error_message = "Give bucket_arn for a bucket on S3, or store_credentials_secret_arn for R2 and others; not both, and not neither."
  }
}

variable "bucket_kms_key_arn" {
  description = "S3: ARN of the KMS key that encrypts the bucket, if it has one of its own."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.bucket_kms_key_arn))
    error_message = "bucket_kms_key_arn must be the ARN of a key, such as \"arn:aws:kms:eu-central-1:123456789012:key/...\". An alias is not taken."
  }
}

variable "store_credentials_secret_arn" {
  description = "R2 and others: ARN of the secret that holds the store's credential, as JSON with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`."
  type        = string
  default     = null

  validation {
    condition     = var.store_credentials_secret_arn == null || can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$", var.store_credentials_secret_arn))
    error_message = "store_credentials_secret_arn must be the whole ARN of a secret, such as \"arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/store-AbCdEf\", never the credential itself."
  }
}

variable "signing_keys_secret_arn" {
  description = "ARN of the secret that holds the signing keys: ES256 keys in PEM form, one after the other, of which the first signs (`EDGEPROXY_SIGNING_KEYS_PEM`)."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$", var.signing_keys_secret_arn))
    error_message = "signing_keys_secret_arn must be the whole ARN of a secret, such as \"arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/signing-keys-AbCdEf\", never a key itself."
  }
}

variable "secrets_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the secrets, if it is not the account's default one."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.secrets_kms_key_arn))
    error_message = "secrets_kms_key_arn must be the ARN of a key, such as \"arn:aws:kms:eu-central-1:123456789012:key/...\". An alias is not taken."
  }
}

variable "settings" {
  description = "More settings of edgeproxy, by their names, such as `{ EDGEPROXY_REDIRECT_SECONDS = \"120\" }`. No secret belongs here: the state shows them."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^EDGEPROXY_[A-Z_]+$", name))])
    error_message = "settings must have names that begin with EDGEPROXY_, in capitals; docs/settings.md lists them. Credentials belong into a secret."
  }

  validation {
    condition = length(setintersection(keys(var.settings), [
      "EDGEPROXY_AUDIT", "EDGEPROXY_BIND", "EDGEPROXY_DRAIN_SECONDS", "EDGEPROXY_LOG_FORMAT", "EDGEPROXY_LOG_LEVEL", "EDGEPROXY_POLICY", "EDGEPROXY_PUBLIC_URL",
      "EDGEPROXY_SIGNING_KEYS", "EDGEPROXY_SIGNING_KEYS_PEM", "EDGEPROXY_STORE", "EDGEPROXY_TRUSTED_PROXIES", "EDGEPROXY_WORKERS",
    ])) == 0
    error_message = "settings must not hold what the module sets or leaves out on purpose: audit, bind, draining, log, policy, public URL, signing keys, store, trusted proxies and workers. Most have a variable of their own."
  }
}

variable "port" {
  description = "Port of the tasks, which only the load balancer can reach: 1024 to 65535."
  type        = number
  default     = 5000

  validation {
    condition     = var.port >= 1024 && var.port <= 65535 && floor(var.port) == var.port
    error_message = "port must be a whole number from 1024 to 65535: the process is not root."
  }
}

variable "cpu" {
  description = "CPU of a task in units of 1/1024 of a core: 256, 512, 1024, 2048 or 4096. Each whole core has a worker process."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048 or 4096, where 1024 is one core."
  }
}

variable "memory" {
  description = "Memory of a task in MiB: 2 to 8 times `cpu` in units, as Fargate has it. 512 holds 32 pushes at once."
  type        = number
  default     = 512

  validation {
    condition     = var.memory >= 2 * var.cpu && var.memory <= min(8 * var.cpu, 30720) && (var.memory % 1024 == 0 || var.memory == 512)
    error_message = "memory must be 512 or a multiple of 1024, from 2 to 8 times cpu: with cpu = 256 it is 512, 1024 or 2048."
  }
}

variable "min_tasks" {
  description = "Least number of tasks, 2 or more, so that the loss of a zone and a deployment go unnoticed."
  type        = number
  default     = 2

  validation {
    condition     = var.min_tasks >= 2 && floor(var.min_tasks) == var.min_tasks
    error_message = "min_tasks must be a whole number of 2 or more: one task alone would be a gap in every failure."
  }
}

variable "max_tasks" {
  description = "Greatest number of tasks, which bounds what a flood of requests can cost."
  type        = number
  default     = 6

  validation {
    condition     = var.max_tasks >= var.min_tasks && floor(var.max_tasks) == var.max_tasks
    error_message = "max_tasks must be a whole number that is not below min_tasks."
  }
}

variable "cpu_percent" {
  description = "Average CPU of the tasks that scaling aims at, 20 to 90 percent."
  type        = number
  default     = 60

  validation {
    condition     = var.cpu_percent >= 20 && var.cpu_percent <= 90
    error_message = "cpu_percent must be from 20 to 90: below, it never rests; above, it scales too late."
  }
}

variable "requests_per_minute" {
  description = "Requests a minute and task that scaling aims at, 600 or more. A quarter of a core redirects more than the default."
  type        = number
  default     = 12000

  validation {
    condition     = var.requests_per_minute >= 600
    error_message = "requests_per_minute must be 600 or more, which is ten a second: less would scale out on a single pull."
  }
}

variable "log_retention_days" {
  description = "How long logs and audit lines are kept: 7, 14, 30, 60, 90, 180, 365, 731 or 1827 days."
  type        = number
  default     = 90

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 731, 1827], var.log_retention_days)
    error_message = "log_retention_days must be 7, 14, 30, 60, 90, 180, 365, 731 or 1827; audit lines go with the log, so keep them as long as you may be asked."
  }
}

variable "access_logs_bucket" {
  description = "Name of a bucket for the load balancer's access logs. Null: none, as the audit says more."
  type        = string
  default     = null
}

variable "alarm_topic_arns" {
  description = "ARNs of the SNS topics that are told when an alarm begins and ends. Without one the alarms only show in the console."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:.+$", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics, such as \"arn:aws:sns:eu-central-1:123456789012:oncall\"."
  }
}

variable "deletion_protection" {
  description = "Whether the load balancer refuses to be deleted. Switch it off, apply, then destroy."
  type        = bool
  default     = true
}
