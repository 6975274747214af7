output "store" {
  description = "The bucket as `EDGEPROXY_STORE` names it."
  value = {
    r2    = "r2://${var.account_id == null ? "" : var.account_id}/${join("/", compact([aws_s3_bucket.this.bucket, var.prefix]))}${var.jurisdiction == "default" ? "" : "?jurisdiction=${var.jurisdiction}"}"
    s3    = "s3://${join("/", compact([aws_s3_bucket.this.bucket, var.prefix]))}?region=${aws_s3_bucket.this.region}"
    other = "s3://${join("/", compact([aws_s3_bucket.this.bucket, var.prefix]))}?endpoint=${var.endpoint == null ? "" : var.endpoint}&region=us-east-1"
  }[var.store]
}

output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "ARN of the bucket, for the permissions of whoever serves it; null where there are none, as on R2."
  value       = local.aws ? aws_s3_bucket.this.arn : null
}

output "prefix" {
  description = "Where in the bucket the registry lives."
  value       = var.prefix
}

output "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the objects, or null."
  value       = var.kms_key_arn
}

output "policy_key" {
  description = "Key of the object that `EDGEPROXY_POLICY=store:` reads."
  value       = "${local.folder}config/policy.yaml"
}

output "lifecycle_command" {
  description = "The command that sets the lifecycle rules where the provider cannot: it waits for an answer that R2 and its like do not give. Null on S3, where they are set already. Run it once, with the credentials of the bucket."
  value = local.aws ? null : join(" ", [
    "aws s3api put-bucket-lifecycle-configuration --endpoint-url", local.endpoint, "--region auto --bucket", aws_s3_bucket.this.bucket,
    "--lifecycle-configuration", "'${jsonencode(local.lifecycle_rules)}'",
  ])
}
