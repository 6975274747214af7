# A registry on one small EC2 machine, with its objects on Cloudflare R2. Change the values in `locals`.

locals {
  region     = "us-east-1"
  domain     = "registry.example.com"
  image      = "registry.example.org/edgeproxy:1"
  account_id = "0123456789abcdef0123456789abcdef" # of Cloudflare: the R2 overview of the dashboard shows it
  bucket     = "acme-registry"
  parameter  = "/registry/r2" # where the keys of the bucket are, see the README
}

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
  region = local.region
}

# R2 by its S3 API. Its keys are those of the profile `r2` in ~/.aws/credentials.
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

module "github" {
  source   = "../../modules/github-oidc"
  audience = local.domain

  trusts = [
    { name = "main-pushes-app", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"] },
  ]
}

module "bucket" {
  source    = "../../modules/bucket"
  providers = { aws = aws.r2 }

  name       = local.bucket
  store      = "r2"
  account_id = local.account_id
  policy     = yamlencode(merge(module.github.policy, { version = 1, public = [{ repositories = ["public/**"], actions = ["pull"] }] }))
}

module "registry" {
  source = "../../modules/service-vm"

  domain   = local.domain
  image    = local.image
  store    = module.bucket.store
  packages = ["awscli"]

  credentials = {
    from    = "command"
    command = "aws ssm get-parameter --region ${local.region} --name ${local.parameter} --with-decryption --query Parameter.Value --output text"
  }
}

# From here on it is the machine: any other cloud's takes module.registry.user_data as well.

data "aws_ami" "debian" {
  owners      = ["136693071363"] # Debian
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

data "aws_caller_identity" "this" {}

# What may reach the machine; nftables on it says the same.
resource "aws_security_group" "this" {
  name_prefix = "registry-"
  description = "Web ports of the registry"

  dynamic "ingress" {
    for_each = module.registry.ports

    content {
      description      = "Clients, and the certificate authority"
      protocol         = "tcp"
      from_port        = ingress.value
      to_port          = ingress.value
      cidr_blocks      = ["0.0.0.0/0"]
      ipv6_cidr_blocks = ["::/0"]
    }
  }

  egress {
    description      = "The bucket, identity providers, updates"
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
}

# What the machine may do at AWS: read this one parameter.
resource "aws_iam_role" "this" {
  name_prefix = "registry-"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "this" {
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "arn:aws:ssm:${local.region}:${data.aws_caller_identity.this.account_id}:parameter${local.parameter}"
    }]
  })
}

resource "aws_iam_instance_profile" "this" {
  role = aws_iam_role.this.name
}

# The address outlives the machine, so that the DNS record stays right.
resource "aws_eip" "this" {
  domain   = "vpc"
  instance = aws_instance.this.id
}

# The machine. It holds nothing that could not be made again.
resource "aws_instance" "this" {
  ami                         = data.aws_ami.debian.id
  instance_type               = "t3.micro"
  iam_instance_profile        = aws_iam_instance_profile.this.name
  vpc_security_group_ids      = [aws_security_group.this.id]
  user_data_base64            = module.registry.user_data_base64gzip
  user_data_replace_on_change = true
  tags                        = { Name = local.domain }

  # Only processes of the machine itself, and only by a session token, reach its role.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted   = true
    volume_size = 10
    volume_type = "gp3"
  }

  lifecycle {
    # Debian's updates come by themselves; a newer image is no reason for a new machine.
    ignore_changes = [ami]
  }
}

output "address" {
  description = "The A record of the domain points here."
  value       = aws_eip.this.public_ip
}

output "workflows" {
  description = "Jobs for `.github/workflows`, by the names of their trusts."
  value       = module.github.workflows
}

output "lifecycle_command" {
  description = "The command that sets the bucket's lifecycle rules, to be run once."
  value       = module.bucket.lifecycle_command
}
