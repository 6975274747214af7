data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  prefix = try(regex("^(?:r2://[^/]+/|s3://)[^/?]+/([^?]+)", var.store)[0], "")

  # The container's name, which service and target group refer to.
  container = "edgeproxy"

  environment = merge(var.settings, {
    EDGEPROXY_AUDIT           = "stdout"
    EDGEPROXY_BIND            = "0.0.0.0:${var.port}"
    EDGEPROXY_LOG_FORMAT      = "json"
    EDGEPROXY_LOG_LEVEL       = "info"
    EDGEPROXY_POLICY          = "store:"
    EDGEPROXY_PUBLIC_URL      = "https://${var.hostname}"
    EDGEPROXY_STORE           = var.store
    EDGEPROXY_TRUSTED_PROXIES = join(",", sort(data.aws_subnet.public[*].cidr_block))
    EDGEPROXY_WORKERS         = tostring(max(1, floor(var.cpu / 1024)))
  })

  secrets = merge(
    { EDGEPROXY_SIGNING_KEYS_PEM = var.signing_keys_secret_arn },
    var.store_credentials_secret_arn == null ? {} : {
      AWS_ACCESS_KEY_ID     = "${var.store_credentials_secret_arn}:AWS_ACCESS_KEY_ID::"
      AWS_SECRET_ACCESS_KEY = "${var.store_credentials_secret_arn}:AWS_SECRET_ACCESS_KEY::"
    },
  )
}

# Where logs and audit lines go.
resource "aws_cloudwatch_log_group" "this" {
  name              = "/edgeproxy/${var.name}"
  retention_in_days = var.log_retention_days
}

# The cluster, for this service alone.
resource "aws_ecs_cluster" "this" {
  name = var.name
}

# What one task runs: one container, as nobody, on a file system that it cannot write.
resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([{
    name                   = local.container
    image                  = var.image
    essential              = true
    entryPoint             = ["edgeproxy"]
    command                = ["serve"]
    user                   = "65532:65532"
    readonlyRootFilesystem = true
    privileged             = false
    portMappings           = [{ containerPort = var.port, hostPort = var.port, protocol = "tcp" }]
    environment            = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
    secrets                = [for name in sort(keys(local.secrets)) : { name = name, valueFrom = local.secrets[name] }]
    # A stop lets what runs finish for 30 s; then nothing is left to wait for.
    stopTimeout     = 60
    linuxParameters = { capabilities = { drop = ["ALL"] }, initProcessEnabled = false }
    ulimits         = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = data.aws_region.current.id
        awslogs-stream-prefix = "task"
      }
    }
  }])
}

# The service: new tasks are ready before old ones go, and a deployment that fails is taken back.
resource "aws_ecs_service" "this" {
  name                               = var.name
  cluster                            = aws_ecs_cluster.this.arn
  task_definition                    = aws_ecs_task_definition.this.arn
  desired_count                      = var.min_tasks
  launch_type                        = "FARGATE"
  availability_zone_rebalancing      = "ENABLED"
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  enable_execute_command             = false
  propagate_tags                     = "SERVICE"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.task_subnet_ids
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = var.tasks_public_ip
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = local.container
    container_port   = var.port
  }

  lifecycle {
    # Scaling owns the number.
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.https, aws_iam_role_policy.execution, aws_iam_role_policy.task]
}

# How far the number of tasks may go.
resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  min_capacity       = var.min_tasks
  max_capacity       = var.max_tasks
}

# More tasks where hashing and signing keep them busy.
resource "aws_appautoscaling_policy" "cpu" {
  name               = "${var.name}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.cpu_percent
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

# More tasks where requests are many, before they show as CPU.
resource "aws_appautoscaling_policy" "requests" {
  name               = "${var.name}-requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.requests_per_minute
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.this.arn_suffix}/${aws_lb_target_group.this.arn_suffix}"
    }
  }
}
