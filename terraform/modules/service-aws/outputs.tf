output "url" {
  description = "What clients type, with https:// before it."
  value       = "https://${var.hostname}"
}

output "dns_name" {
  description = "Name of the load balancer: where `hostname` has to point (CNAME) if its zone is not in Route 53."
  value       = aws_lb.this.dns_name
}

output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "service_name" {
  description = "Name of the ECS service, for `aws ecs update-service --force-new-deployment` after a secret was changed."
  value       = aws_ecs_service.this.name
}

output "task_definition_arn" {
  description = "ARN of the task definition in force."
  value       = aws_ecs_task_definition.this.arn
}

output "task_role_arn" {
  description = "ARN of the role that the program has."
  value       = aws_iam_role.task.arn
}

output "log_group_name" {
  description = "Name of the log group; lines with `event` are the audit, lines with `logger` the operator's log."
  value       = aws_cloudwatch_log_group.this.name
}

output "task_security_group_id" {
  description = "Id of the tasks' security group, for what they should be let into, such as VPC endpoints."
  value       = aws_security_group.task.id
}
