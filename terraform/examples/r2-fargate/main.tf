# Objects on Cloudflare R2, the registry on AWS Fargate. Change the values that README.md lists.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

locals {
  account_id = "0123456789abcdef0123456789abcdef"
}

provider "aws" {
  region = "eu-central-1"
}

# R2 by its S3 API. Its credential is the profile `r2` of the AWS tools: in no file here, and not in the state.
provider "aws" {
  alias                       = "r2"
  profile                     = "r2"
  region                      = "auto"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true

  endpoints {
    s3 = "https://${local.account_id}.r2.cloudflarestorage.com"
  }
}

module "bucket" {
  source    = "../../modules/bucket"
  providers = { aws = aws.r2 }

  name       = "acme-registry"
  store      = "r2"
  account_id = local.account_id
  policy     = file("${path.module}/policy.yaml")
}

module "registry" {
  source = "../../modules/service-aws"

  hostname        = "registry.example.com"
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
  image           = "ghcr.example.com/acme/edgeproxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"

  vpc_id            = data.aws_vpc.default.id
  public_subnet_ids = local.subnet_ids
  task_subnet_ids   = local.subnet_ids
  tasks_public_ip   = true

  store                        = module.bucket.store
  store_credentials_secret_arn = data.aws_secretsmanager_secret.store.arn
  signing_keys_secret_arn      = data.aws_secretsmanager_secret.signing_keys.arn
}

# The account's default network: public subnets, one a zone. Two are enough.
data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }

  filter {
    name   = "default-for-az"
    values = ["true"]
  }
}

locals {
  subnet_ids = slice(sort(data.aws_subnets.default.ids), 0, 2)
}

# Only the names of the secrets are read here, never their values.
data "aws_secretsmanager_secret" "store" {
  name = "edgeproxy/store"
}

data "aws_secretsmanager_secret" "signing_keys" {
  name = "edgeproxy/signing-keys"
}

output "dns_name" {
  description = "Where the host name has to point: a CNAME record at your DNS."
  value       = module.registry.dns_name
}

output "lifecycle_command" {
  description = "The command that sets the lifecycle rules of the R2 bucket, to be run once."
  value       = module.bucket.lifecycle_command
}
