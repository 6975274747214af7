locals {
  aws    = var.store == "s3"
  folder = var.prefix == "" ? "" : "${var.prefix}/"

  endpoint = {
    r2    = "https://${var.account_id == null ? "" : var.account_id}.${var.jurisdiction == "default" ? "" : "${var.jurisdiction}."}r2.cloudflarestorage.com"
    s3    = null
    other = var.endpoint
  }[var.store]

  # The same rules for every store: by the provider on S3, by a command elsewhere.
  lifecycle_rules = {
    Rules = [
      {
        ID                             = "abort-multipart-uploads"
        Status                         = "Enabled"
        Filter                         = { Prefix = local.folder }
        AbortIncompleteMultipartUpload = { DaysAfterInitiation = 1 }
      },
      {
        ID         = "drop-abandoned-uploads"
        Status     = "Enabled"
        Filter     = { Prefix = "${local.folder}uploads/" }
        Expiration = { Days = 2 }
      },
    ]
  }
}

# The bucket. It keeps objects and no other thing, and is not destroyed with them.
resource "aws_s3_bucket" "this" {
  bucket        = var.name
  force_destroy = false

  lifecycle {
    prevent_destroy = true
  }
}

# The policy document of the registry, if it is kept here.
resource "aws_s3_object" "policy" {
  count = var.policy == null ? 0 : 1

  bucket       = aws_s3_bucket.this.bucket
  key          = "${local.folder}config/policy.yaml"
  content      = var.policy
  content_type = "application/yaml"

  # R2 and others know no tags: what the provider is told to tag everything with stays away from this object.
  override_provider {
    default_tags {
      tags = {}
    }
  }

  lifecycle {
    precondition {
      condition     = length(var.policy) <= 1048576
      error_message = "policy is larger than 1 MiB, which the registry would refuse: split it into fewer, wider rules."
    }
  }
}

# No object or rule of the bucket may ever make it public.
resource "aws_s3_bucket_public_access_block" "this" {
  count = local.aws ? 1 : 0

  bucket                  = aws_s3_bucket.this.bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Objects belong to the bucket's account; there are no access lists.
resource "aws_s3_bucket_ownership_controls" "this" {
  count = local.aws ? 1 : 0

  bucket = aws_s3_bucket.this.bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# Objects are encrypted, with a bucket key so that a KMS key is not asked for each of them.
resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  count = local.aws ? 1 : 0

  bucket = aws_s3_bucket.this.bucket

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# Nobody speaks to the bucket without TLS 1.2 or newer.
resource "aws_s3_bucket_policy" "this" {
  count = local.aws ? 1 : 0

  bucket = aws_s3_bucket.this.bucket

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyTLS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyTLS12"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# What abandoned uploads leave behind goes away by itself. Elsewhere than on S3 by a command: see the output `lifecycle_command`.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  count = local.aws ? 1 : 0

  bucket = aws_s3_bucket.this.bucket

  dynamic "rule" {
    for_each = local.lifecycle_rules.Rules

    content {
      id     = rule.value.ID
      status = rule.value.Status

      filter {
        prefix = rule.value.Filter.Prefix
      }

      dynamic "abort_incomplete_multipart_upload" {
        for_each = [for each in [lookup(rule.value, "AbortIncompleteMultipartUpload", null)] : each if each != null]

        content {
          days_after_initiation = abort_incomplete_multipart_upload.value.DaysAfterInitiation
        }
      }

      dynamic "expiration" {
        for_each = [for each in [lookup(rule.value, "Expiration", null)] : each if each != null]

        content {
          days = expiration.value.Days
        }
      }
    }
  }
}
