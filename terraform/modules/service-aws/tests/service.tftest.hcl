mock_provider "aws" {
  override_during = plan

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/edgeproxy/edgeproxy" }
  }

  mock_resource "aws_lb" {
    defaults = {
      arn        = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/edgeproxy/50dc6c495c0c9188"
      arn_suffix = "app/edgeproxy/50dc6c495c0c9188"
    }
  }

  mock_resource "aws_lb_target_group" {
    defaults = {
      arn        = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/edgeproxy/73e2d6bc24d8a067"
      arn_suffix = "targetgroup/edgeproxy/73e2d6bc24d8a067"
    }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/edgeproxy" }
  }

  mock_resource "aws_acm_certificate" {
    defaults = {
      arn = "arn:aws:acm:eu-central-1:123456789012:certificate/made-here"
      domain_validation_options = [{
        domain_name           = "registry.example.com"
        resource_record_name  = "_a.registry.example.com."
        resource_record_type  = "CNAME"
        resource_record_value = "_b.acm-validations.aws."
      }]
    }
  }
}

override_data {
  target = data.aws_subnet.public[0]
  values = { availability_zone = "eu-central-1a", cidr_block = "10.0.1.0/24", vpc_id = "vpc-0123456789abcdef0" }
}

override_data {
  target = data.aws_subnet.public[1]
  values = { availability_zone = "eu-central-1b", cidr_block = "10.0.0.0/24", vpc_id = "vpc-0123456789abcdef0" }
}

override_data {
  target = data.aws_subnet.task[0]
  values = { availability_zone = "eu-central-1a", cidr_block = "10.0.2.0/24", vpc_id = "vpc-0123456789abcdef0" }
}

override_data {
  target = data.aws_subnet.task[1]
  values = { availability_zone = "eu-central-1b", cidr_block = "10.0.3.0/24", vpc_id = "vpc-0123456789abcdef0" }
}

variables {
  hostname                     = "registry.example.com"
  certificate_arn              = "arn:aws:acm:eu-central-1:123456789012:certificate/given"
  vpc_id                       = "vpc-0123456789abcdef0"
  public_subnet_ids            = ["subnet-00000000000000001", "subnet-00000000000000002"]
  task_subnet_ids              = ["subnet-00000000000000003", "subnet-00000000000000004"]
  image                        = "registry.example.net/edgeproxy@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  store                        = "r2://0123456789abcdef0123456789abcdef/acme-registry"
  store_credentials_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/store-AbCdEf"
  signing_keys_secret_arn      = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/signing-keys-AbCdEf"
}

run "on_r2" {
  command = plan

  # The container.

  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem
      && !jsondecode(aws_ecs_task_definition.this.container_definitions)[0].privileged
      && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].user == "65532:65532"
      && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].linuxParameters.capabilities.drop == ["ALL"]
    )
    error_message = "the container must be nobody, with no capability, on a file system that it cannot write"
  }

  assert {
    condition     = length(jsondecode(aws_ecs_task_definition.this.container_definitions)) == 1
    error_message = "one task must be one container"
  }

  assert {
    condition = { for each in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : each.name => each.value } == {
      EDGEPROXY_AUDIT           = "stdout"
      EDGEPROXY_BIND            = "0.0.0.0:5000"
      EDGEPROXY_LOG_FORMAT      = "json"
      EDGEPROXY_LOG_LEVEL       = "info"
      EDGEPROXY_POLICY          = "store:"
      EDGEPROXY_PUBLIC_URL      = "https://registry.example.com"
      EDGEPROXY_STORE           = "r2://0123456789abcdef0123456789abcdef/acme-registry"
      EDGEPROXY_TRUSTED_PROXIES = "10.0.0.0/24,10.0.1.0/24"
      EDGEPROXY_WORKERS         = "1"
    }
    error_message = "the environment must hold these settings and no other, and trust the load balancer's subnets alone"
  }

  assert {
    condition = { for each in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].secrets : each.name => each.valueFrom } == {
      AWS_ACCESS_KEY_ID          = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/store-AbCdEf:AWS_ACCESS_KEY_ID::"
      AWS_SECRET_ACCESS_KEY      = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/store-AbCdEf:AWS_SECRET_ACCESS_KEY::"
      EDGEPROXY_SIGNING_KEYS_PEM = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/signing-keys-AbCdEf"
    }
    error_message = "credential and signing keys must come from the secrets, by name"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout > 30 + 5 && tonumber(aws_lb_target_group.this.deregistration_delay) == 120
    error_message = "a stop must leave more than the 30 s of grace and the 5 s after it, and pushes their time before it"
  }

  # What it costs.

  assert {
    condition     = aws_ecs_task_definition.this.cpu == "256" && aws_ecs_task_definition.this.memory == "512" && aws_ecs_service.this.desired_count == 2
    error_message = "two tasks of a quarter of a core and 512 MiB are what the README prices"
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 2 && aws_appautoscaling_target.this.max_capacity == 6 && aws_cloudwatch_log_group.this.retention_in_days == 90
    error_message = "scaling and logs must be bounded as the README says"
  }

  assert {
    condition = (
      one(one(aws_appautoscaling_policy.requests.target_tracking_scaling_policy_configuration).predefined_metric_specification).resource_label == "app/edgeproxy/50dc6c495c0c9188/targetgroup/edgeproxy/73e2d6bc24d8a067"
      && one(one(aws_appautoscaling_policy.cpu.target_tracking_scaling_policy_configuration).predefined_metric_specification).predefined_metric_type == "ECSServiceAverageCPUUtilization"
    )
    error_message = "scaling must follow CPU, and the requests of this load balancer"
  }

  # Deployments.

  assert {
    condition     = one(aws_ecs_service.this.deployment_circuit_breaker).enable && one(aws_ecs_service.this.deployment_circuit_breaker).rollback && aws_ecs_service.this.deployment_minimum_healthy_percent == 100
    error_message = "a deployment that fails must be taken back, and never go below what serves"
  }

  # Privileges.

  assert {
    condition     = jsondecode(aws_iam_role_policy.task.policy).Statement == [{ Sid = "Nothing", Effect = "Deny", Action = ["*"], Resource = ["*"] }]
    error_message = "with a store elsewhere the program must have no privilege at AWS at all"
  }

  assert {
    condition     = toset(flatten([for each in jsondecode(aws_iam_role_policy.execution.policy).Statement : each.Action])) == toset(["logs:CreateLogStream", "logs:PutLogEvents", "secretsmanager:GetSecretValue"])
    error_message = "ECS must need no more than log and secrets to start the program"
  }

  assert {
    condition = flatten([for each in jsondecode(aws_iam_role_policy.execution.policy).Statement : each.Resource]) == [
      "arn:aws:logs:eu-central-1:123456789012:log-group:/edgeproxy/edgeproxy:*",
      "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/signing-keys-AbCdEf",
      "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/store-AbCdEf",
    ]
    error_message = "ECS must reach this log group and these two secrets, by their whole names"
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.task, aws_iam_role.execution] : jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"])
    error_message = "the roles must be for tasks of this account alone"
  }

  # Doors.

  assert {
    condition     = one(aws_ecs_service.this.network_configuration).assign_public_ip == false
    error_message = "tasks must have no public address unless it is asked for"
  }

  assert {
    condition     = [for rule in [aws_vpc_security_group_ingress_rule.https[0], aws_vpc_security_group_ingress_rule.http[0]] : [rule.from_port, rule.to_port]] == [[443, 443], [80, 80]]
    error_message = "clients must reach 443 and 80 alone"
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.from_load_balancer.from_port == 5000 && aws_vpc_security_group_ingress_rule.from_load_balancer.to_port == 5000
      && aws_vpc_security_group_ingress_rule.from_load_balancer.cidr_ipv4 == null && aws_vpc_security_group_egress_rule.to_tasks.cidr_ipv4 == null
      && aws_vpc_security_group_egress_rule.to_tasks.from_port == 5000 && aws_vpc_security_group_egress_rule.to_tasks.to_port == 5000
    )
    error_message = "the load balancer must reach the tasks on their port, nobody else, and reach nothing else"
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443 && length(aws_vpc_security_group_egress_rule.store) == 0
    error_message = "the tasks must go out by HTTPS only"
  }

  # The load balancer.

  assert {
    condition     = aws_lb_listener.https.protocol == "HTTPS" && aws_lb_listener.https.ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06" && aws_lb_listener.https.certificate_arn == var.certificate_arn
    error_message = "TLS must be 1.2 or newer, with the certificate that was given"
  }

  assert {
    condition     = one(aws_lb_listener.http.default_action).type == "redirect" && one(one(aws_lb_listener.http.default_action).redirect).protocol == "HTTPS"
    error_message = "plain HTTP must be redirected and never served"
  }

  assert {
    condition     = aws_lb.this.enable_deletion_protection && aws_lb.this.drop_invalid_header_fields && aws_lb.this.idle_timeout == 60
    error_message = "the load balancer must be protected, drop broken headers, and wait longer than answers take and shorter than tasks keep connections"
  }

  assert {
    condition     = one(aws_lb_target_group.this.health_check).path == "/healthz"
    error_message = "tasks must not be replaced because the store is away"
  }

  assert {
    condition     = length(aws_acm_certificate.this) == 0 && length(aws_route53_record.this) == 0 && length(aws_route53_record.validation) == 0
    error_message = "with DNS elsewhere neither certificate nor record is made"
  }

  # Alarms.

  assert {
    condition = [
      aws_cloudwatch_metric_alarm.policy_broken.treat_missing_data, aws_cloudwatch_metric_alarm.audit_dropped.treat_missing_data,
      aws_cloudwatch_metric_alarm.no_ready_task.treat_missing_data, aws_cloudwatch_metric_alarm.errors.treat_missing_data,
    ] == ["ignore", "notBreaching", "breaching", "notBreaching"]
    error_message = "silence must keep the alarm about the policy, raise the one about tasks, and end the others"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.certificate.dimensions.CertificateArn == var.certificate_arn && aws_cloudwatch_metric_alarm.certificate.threshold == 30
    error_message = "the age of the certificate that is used must be watched"
  }

  assert {
    condition     = toset([for name, filter in aws_cloudwatch_log_metric_filter.this : one(filter.metric_transformation).namespace]) == toset(["edgeproxy/edgeproxy"])
    error_message = "what is counted off the log must be where the alarms look"
  }
}

run "on_s3_with_everything" {
  command = plan

  variables {
    name                         = "pictures"
    zone_id                      = "Z0123456789ABCDEFGHIJ"
    certificate_arn              = null
    client_cidrs                 = ["203.0.113.0/24", "198.51.100.0/24"]
    image_repository_arn         = "arn:aws:ecr:eu-central-1:123456789012:repository/edgeproxy"
    architecture                 = "ARM64"
    store                        = "s3://acme-registry/prod/registry?region=eu-central-1"
    store_port                   = 9000
    store_credentials_secret_arn = null
    bucket_arn                   = "arn:aws:s3:::acme-registry"
    bucket_kms_key_arn           = "arn:aws:kms:eu-central-1:123456789012:key/bucket"
    secrets_kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/secrets"
    settings                     = { EDGEPROXY_REDIRECT_SECONDS = "120" }
    port                         = 8080
    cpu                          = 2048
    memory                       = 4096
    min_tasks                    = 3
    max_tasks                    = 3
    cpu_percent                  = 20
    requests_per_minute          = 600
    log_retention_days           = 365
    access_logs_bucket           = "acme-logs"
    alarm_topic_arns             = ["arn:aws:sns:eu-central-1:123456789012:oncall"]
    tasks_public_ip              = true
    deletion_protection          = false
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.task.policy).Statement == [
      { Sid = "List", Effect = "Allow", Action = ["s3:ListBucket"], Resource = ["arn:aws:s3:::acme-registry"] },
      {
        Sid      = "Objects", Effect = "Allow", Action = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
        Resource = ["arn:aws:s3:::acme-registry/prod/registry/*"]
      },
      { Sid = "BucketKey", Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = ["arn:aws:kms:eu-central-1:123456789012:key/bucket"] },
    ]
    error_message = "the program may use its part of the bucket and its key, by these actions alone"
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.execution.policy).Statement : each.Sid if contains(each.Resource, "*")] == ["ImageToken"]
    error_message = "only the token of ECR has no resource to name"
  }

  assert {
    condition     = [for each in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].secrets : each.name] == ["EDGEPROXY_SIGNING_KEYS_PEM"]
    error_message = "on S3 the role is the credential"
  }

  assert {
    condition = { for each in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : each.name => each.value if contains(["EDGEPROXY_WORKERS", "EDGEPROXY_BIND", "EDGEPROXY_REDIRECT_SECONDS"], each.name) } == {
      EDGEPROXY_BIND = "0.0.0.0:8080", EDGEPROXY_REDIRECT_SECONDS = "120", EDGEPROXY_WORKERS = "2",
    }
    error_message = "each whole core must have a worker, and settings must arrive"
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.https) == 2 && aws_vpc_security_group_egress_rule.store[0].to_port == 9000 && aws_vpc_security_group_ingress_rule.from_load_balancer.to_port == 8080
    error_message = "each network of clients must be let in, and the ports follow the variables"
  }

  assert {
    condition     = aws_route53_record.this[0].name == "registry.example.com" && aws_route53_record.validation[0].records == toset(["_b.acm-validations.aws."]) && aws_acm_certificate.this[0].validation_method == "DNS"
    error_message = "in a zone of Route 53 certificate and records are made"
  }

  assert {
    condition     = one(aws_lb.this.access_logs).bucket == "acme-logs" && aws_cloudwatch_metric_alarm.errors.alarm_actions == toset(var.alarm_topic_arns) && one(aws_ecs_service.this.network_configuration).assign_public_ip
    error_message = "what is asked for must be so"
  }
}

# Each run below fails with one message for each variable in its list, and for no other.

run "refused_values" {
  command = plan

  variables {
    name                         = "Edgeproxy"
    hostname                     = "https://registry.example.com"
    certificate_arn              = "given"
    vpc_id                       = "my-vpc"
    public_subnet_ids            = ["subnet-00000000000000001"]
    task_subnet_ids              = ["subnet-00000000000000003", "subnet-00000000000000003"]
    client_cidrs                 = ["203.0.113.7/24"]
    image                        = "registry.example.net/edgeproxy:v1"
    image_repository_arn         = "edgeproxy"
    architecture                 = "arm64"
    store                        = "gs://acme-registry"
    store_port                   = 0
    store_credentials_secret_arn = "AKIDEXAMPLE"
    signing_keys_secret_arn      = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:edgeproxy/signing-keys-AbCdEf:key::"
    secrets_kms_key_arn          = "alias/aws/secretsmanager"
    bucket_kms_key_arn           = "alias/aws/s3"
    settings                     = { AWS_SECRET_ACCESS_KEY = "secret" }
    port                         = 443
    cpu                          = 300
    min_tasks                    = 1
    cpu_percent                  = 95
    requests_per_minute          = 60
    log_retention_days           = 0
    alarm_topic_arns             = ["oncall@example.com"]
  }

  expect_failures = [
    var.name, var.hostname, var.certificate_arn, var.vpc_id, var.public_subnet_ids, var.task_subnet_ids, var.client_cidrs, var.image,
    var.image_repository_arn, var.architecture, var.store, var.store_port, var.store_credentials_secret_arn, var.signing_keys_secret_arn,
    var.secrets_kms_key_arn, var.bucket_kms_key_arn, var.settings, var.port, var.cpu, var.min_tasks, var.cpu_percent,
    var.requests_per_minute, var.log_retention_days, var.alarm_topic_arns,
  ]
}

run "refused_together" {
  command = plan

  variables {
    zone_id    = "Z0123456789ABCDEFGHIJ"
    bucket_arn = "arn:aws:s3:::acme-registry"
    settings   = { EDGEPROXY_PUBLIC_URL = "https://registry.example.com" }
    memory     = 768
    max_tasks  = 1
  }

  expect_failures = [var.zone_id, var.bucket_arn, var.settings, var.memory, var.max_tasks]
}

run "refused_for_want_of_one" {
  command = plan

  variables {
    certificate_arn              = null
    store_credentials_secret_arn = null
  }

  expect_failures = [var.zone_id, var.bucket_arn]
}

run "refused_names_for_ids" {
  command = plan

  variables {
    zone_id         = "example.com"
    certificate_arn = null
    bucket_arn      = "arn:aws:s3:::acme-registry/*"

    store_credentials_secret_arn = null
  }

  expect_failures = [var.zone_id, var.bucket_arn]
}

run "refused_one_zone" {
  command = plan

  override_data {
    target = data.aws_subnet.task[1]
    values = { availability_zone = "eu-central-1a", cidr_block = "10.0.3.0/24", vpc_id = "vpc-0123456789abcdef0" }
  }

  expect_failures = [aws_lb.this]
}

run "refused_other_vpc" {
  command = plan

  override_data {
    target = data.aws_subnet.public[1]
    values = { availability_zone = "eu-central-1b", cidr_block = "10.0.0.0/24", vpc_id = "vpc-1" }
  }

  expect_failures = [aws_lb.this]
}
