# Objects on Amazon S3, the registry on AWS Fargate, the host name in Route 53. Change the values that README.md lists.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

module "bucket" {
  source = "../../modules/bucket"

  name   = "acme-registry"
  store  = "s3"
  policy = file("${path.module}/policy.yaml")
}

module "registry" {
  source = "../../modules/service-aws"

  hostname = "registry.example.com"
  zone_id  = data.aws_route53_zone.this.zone_id
  image    = "ghcr.example.com/acme/edgeproxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"

  vpc_id            = data.aws_vpc.default.id
  public_subnet_ids = local.subnet_ids
  task_subnet_ids   = local.subnet_ids
  tasks_public_ip   = true

  store                   = module.bucket.store
  bucket_arn              = module.bucket.arn
  signing_keys_secret_arn = data.aws_secretsmanager_secret.signing_keys.arn
}

data "aws_route53_zone" "this" {
  name = "example.com"
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

# Only the name of the secret is read here, never its value.
data "aws_secretsmanager_secret" "signing_keys" {
  name = "edgeproxy/signing-keys"
}

output "url" {
  description = "What clients type, with https:// before it."
  value       = module.registry.url
}
