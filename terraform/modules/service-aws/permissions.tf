locals {
  assume_by_tasks = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })

  # What edgeproxy does with a bucket, and `edgeproxy check` tries: nothing else is called. Elsewhere than on S3 it may do nothing at all,
  # and that is said: whether there is an ARN may not be known yet when Terraform plans how many policies there are.
  bucket_statements = var.bucket_arn == null ? [
    {
      Sid      = "Nothing"
      Effect   = "Deny"
      Action   = ["*"]
      Resource = ["*"]
    },
    ] : [
    {
      Sid      = "List"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = [var.bucket_arn]
    },
    {
      Sid      = "Objects"
      Effect   = "Allow"
      Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      Resource = ["${var.bucket_arn}/${local.prefix == "" ? "" : "${local.prefix}/"}*"]
    },
  ]

  bucket_key_statements = var.bucket_kms_key_arn == null ? [] : [{
    Sid      = "BucketKey"
    Effect   = "Allow"
    Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource = [var.bucket_kms_key_arn]
  }]

  image_statements = var.image_repository_arn == null ? [] : [
    {
      Sid      = "Image"
      Effect   = "Allow"
      Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Resource = [var.image_repository_arn]
    },
    {
      # Has no resource to name.
      Sid      = "ImageToken"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    },
  ]

  secrets_key_statements = var.secrets_kms_key_arn == null ? [] : [{
    Sid      = "SecretsKey"
    Effect   = "Allow"
    Action   = ["kms:Decrypt"]
    Resource = [var.secrets_kms_key_arn]
  }]
}

# What the program may do itself: on S3, use its part of the bucket; elsewhere nothing.
resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  description        = "What edgeproxy may do itself"
  assume_role_policy = local.assume_by_tasks
}

# The bucket, by the five actions that are called.
resource "aws_iam_role_policy" "task" {
  name   = "bucket"
  role   = aws_iam_role.task.name
  policy = jsonencode({ Version = "2012-10-17", Statement = concat(local.bucket_statements, local.bucket_key_statements) })
}

# What ECS may do to start the program.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  description        = "What ECS may do to start edgeproxy"
  assume_role_policy = local.assume_by_tasks
}

# Write to its own log group, read its own secrets, pull its own image.
resource "aws_iam_role_policy" "execution" {
  name = "start"
  role = aws_iam_role.execution.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "Log"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["${aws_cloudwatch_log_group.this.arn}:*"]
        },
        {
          Sid      = "Secrets"
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = sort(compact([var.signing_keys_secret_arn, var.store_credentials_secret_arn]))
        },
      ],
      local.secrets_key_statements,
      local.image_statements,
    )
  })
}
