# The bucket cannot be destroyed, not even a mocked one after a test: everything here is planned only, with what the store would answer.
mock_provider "aws" {
  override_during = plan

  mock_resource "aws_s3_bucket" {
    defaults = {
      arn    = "arn:aws:s3:::acme-registry"
      region = "eu-central-1"
    }
  }
}

variables {
  name   = "acme-registry"
  store  = "s3"
  policy = "version: 1\n"
}

run "s3" {
  command = plan

  variables {
    prefix      = "prod/registry"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }

  assert {
    condition     = aws_s3_bucket.this.force_destroy == false
    error_message = "a bucket with objects must not be destroyed"
  }

  assert {
    condition     = alltrue([for name in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] : aws_s3_bucket_public_access_block.this[0][name]])
    error_message = "all four ways to public access must be blocked"
  }

  assert {
    condition     = one(aws_s3_bucket_ownership_controls.this[0].rule).object_ownership == "BucketOwnerEnforced"
    error_message = "access lists must be off"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this[0].rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "a key that is given must encrypt"
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this[0].rule) == 2
    error_message = "nothing but abandoned uploads may expire"
  }

  assert {
    condition = one([
      for rule in aws_s3_bucket_lifecycle_configuration.this[0].rule : rule.abort_incomplete_multipart_upload[0].days_after_initiation
      if rule.filter[0].prefix == "prod/registry/" && length(rule.expiration) == 0
    ]) == 1
    error_message = "multipart uploads below the prefix must end after a day, and that rule must expire nothing"
  }

  assert {
    condition = one([
      for rule in aws_s3_bucket_lifecycle_configuration.this[0].rule : rule.expiration[0].days
      if rule.filter[0].prefix == "prod/registry/uploads/"
    ]) == 2
    error_message = "abandoned uploads below the prefix must go after two days, when no session can still be going on"
  }

  assert {
    condition     = aws_s3_object.policy[0].key == "prod/registry/config/policy.yaml"
    error_message = "the policy must lie where store: reads it"
  }
}

run "s3_tls_and_outputs" {
  command = plan

  assert {
    condition = length([
      for statement in jsondecode(aws_s3_bucket_policy.this[0].policy).Statement : statement
      if statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:*" && length(statement.Resource) == 2
    ]) == 2 && length(jsondecode(aws_s3_bucket_policy.this[0].policy).Statement) == 2
    error_message = "the policy of the bucket must deny, for everyone and everything, and allow nothing"
  }

  assert {
    condition     = jsondecode(aws_s3_bucket_policy.this[0].policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    error_message = "plain HTTP must be denied"
  }

  assert {
    condition     = jsondecode(aws_s3_bucket_policy.this[0].policy).Statement[1].Condition.NumericLessThan["s3:TlsVersion"] == "1.2"
    error_message = "TLS before 1.2 must be denied"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this[0].rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "without a key, S3's own must encrypt"
  }

  assert {
    condition     = output.store == "s3://acme-registry?region=eu-central-1" && output.arn == "arn:aws:s3:::acme-registry" && output.lifecycle_command == null
    error_message = "S3 is named with its region, has an ARN, and needs no command"
  }
}

run "r2" {
  command = plan

  variables {
    store        = "r2"
    account_id   = "0123456789abcdef0123456789abcdef"
    jurisdiction = "eu"
    prefix       = "registry"
  }

  assert {
    condition     = output.store == "r2://0123456789abcdef0123456789abcdef/acme-registry/registry?jurisdiction=eu"
    error_message = "R2 is named with account, bucket, prefix and jurisdiction"
  }

  assert {
    condition     = output.arn == null && output.policy_key == "registry/config/policy.yaml"
    error_message = "R2 has no ARN"
  }

  assert {
    condition = alltrue([for each in [
      aws_s3_bucket_public_access_block.this, aws_s3_bucket_ownership_controls.this, aws_s3_bucket_server_side_encryption_configuration.this,
      aws_s3_bucket_policy.this, aws_s3_bucket_lifecycle_configuration.this,
    ] : length(each) == 0])
    error_message = "what R2 does not know must not be asked of it"
  }

  assert {
    condition     = startswith(output.lifecycle_command, "aws s3api put-bucket-lifecycle-configuration --endpoint-url https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com --region auto --bucket acme-registry --lifecycle-configuration '")
    error_message = "the command must go to the endpoint of the jurisdiction"
  }

  assert {
    condition     = [for rule in jsondecode(split("'", output.lifecycle_command)[1]).Rules : rule.Filter.Prefix] == ["registry/", "registry/uploads/"]
    error_message = "the command must set the same two rules, below the prefix"
  }
}

run "r2_whole_bucket" {
  command = plan

  variables {
    store      = "r2"
    account_id = "0123456789abcdef0123456789abcdef"
    policy     = null
  }

  assert {
    condition     = output.store == "r2://0123456789abcdef0123456789abcdef/acme-registry" && length(aws_s3_object.policy) == 0
    error_message = "without prefix, jurisdiction and policy nothing stands for them"
  }
}

run "other" {
  command = plan

  variables {
    store    = "other"
    endpoint = "https://s3.example.com:9000"
  }

  assert {
    condition     = output.store == "s3://acme-registry?endpoint=https://s3.example.com:9000&region=us-east-1"
    error_message = "another store is named with its endpoint"
  }
}

# Each run below fails with one message for each variable in its list, and for no other.

run "refused_values" {
  command = plan

  variables {
    name         = "acme.registry"
    store        = "r2"
    account_id   = "0123456789ABCDEF0123456789ABCDEF"
    jurisdiction = "EU"
    prefix       = "registry/"
    policy       = "policy.yaml"
  }

  expect_failures = [var.name, var.account_id, var.jurisdiction, var.prefix, var.policy]
}

run "refused_store" {
  command = plan

  variables {
    store = "gcs"
  }

  expect_failures = [var.store]
}

run "refused_on_s3" {
  command = plan

  variables {
    jurisdiction = "eu"
    endpoint     = "https://s3.example.com"
    kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:alias/registry"
  }

  expect_failures = [var.jurisdiction, var.endpoint, var.kms_key_arn]
}

run "refused_on_r2" {
  command = plan

  variables {
    store       = "r2"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }

  expect_failures = [var.account_id, var.kms_key_arn]
}

run "refused_endpoint_with_a_path" {
  command = plan

  variables {
    store    = "other"
    endpoint = "https://s3.example.com/"
  }

  expect_failures = [var.endpoint]
}
