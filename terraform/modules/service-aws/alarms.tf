locals {
  # Lines of the operator's log that begin an alarm (1) and end it (0). Each is a filter of its own on one metric.
  log_lines = {
    policy-broken = {
      metric  = "policy-broken"
      value   = "1"
      pattern = "{ $.logger = \"edgeproxy.reload\" && $.level = \"error\" && $.message = \"the changed policy*\" }"
    }
    policy-mended = {
      metric  = "policy-broken"
      value   = "0"
      pattern = "{ $.logger = \"edgeproxy.reload\" && $.level = \"info\" && $.message = \"policy *\" }"
    }
    policy-at-start = {
      metric  = "policy-broken"
      value   = "0"
      pattern = "{ $.logger = \"edgeproxy.app\" && $.level = \"info\" && $.message = \"serving *\" }"
    }
    audit-dropped = {
      metric  = "audit-dropped"
      value   = "1"
      pattern = "{ $.logger = \"edgeproxy.audit\" && $.level = \"error\" }"
    }
  }

  metrics_namespace = "edgeproxy/${var.name}"
}

# Metrics made of log lines.
resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = local.log_lines

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = each.value.pattern

  metric_transformation {
    namespace = local.metrics_namespace
    name      = each.value.metric
    value     = each.value.value
  }
}

# A changed policy is not usable: the old one stays in force until somebody mends it. Nothing is written while nothing changes, so
# the alarm keeps its state until a line ends it.
resource "aws_cloudwatch_metric_alarm" "policy_broken" {
  alarm_name          = "${var.name}-policy-broken"
  alarm_description   = "The newest policy document is not usable; the one before it stays in force. The log says why: look for 'the changed policy is not usable'."
  namespace           = local.metrics_namespace
  metric_name         = "policy-broken"
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "ignore"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

# Decisions were made that no audit line tells of.
resource "aws_cloudwatch_metric_alarm" "audit_dropped" {
  alarm_name          = "${var.name}-audit-dropped"
  alarm_description   = "Audit lines were lost: what they go to fails or is too slow. The log says how many."
  namespace           = local.metrics_namespace
  metric_name         = "audit-dropped"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

# Requests failed, at the tasks or before them.
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-5xx"
  alarm_description   = "More than ten requests in five minutes were answered with 5xx. /readyz of a task says what is not as it should be."
  evaluation_periods  = 1
  threshold           = 10
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  metric_query {
    id          = "all"
    expression  = "FILL(tasks, 0) + FILL(balancer, 0)"
    label       = "5xx"
    return_data = true
  }

  metric_query {
    id = "tasks"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_Target_5XX_Count"
      stat        = "Sum"
      period      = 300
      dimensions  = { LoadBalancer = aws_lb.this.arn_suffix }
    }
  }

  metric_query {
    id = "balancer"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_ELB_5XX_Count"
      stat        = "Sum"
      period      = 300
      dimensions  = { LoadBalancer = aws_lb.this.arn_suffix }
    }
  }
}

# Nobody serves.
resource "aws_cloudwatch_metric_alarm" "no_ready_task" {
  alarm_name          = "${var.name}-no-ready-task"
  alarm_description   = "No task is healthy. The events of the ECS service and the log say why tasks do not start."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this.arn_suffix }
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

# ACM renews 60 days before the end; at 30 something keeps it from doing so.
resource "aws_cloudwatch_metric_alarm" "certificate" {
  alarm_name          = "${var.name}-certificate"
  alarm_description   = "The certificate ends within 30 days and was not renewed. Is the validation record still in the zone?"
  namespace           = "AWS/CertificateManager"
  metric_name         = "DaysToExpiry"
  statistic           = "Minimum"
  period              = 86400
  evaluation_periods  = 1
  threshold           = 30
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "missing"
  dimensions          = { CertificateArn = local.certificate_arn }
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}
