# Read for their addresses, which are those of the load balancer, and for their zones.
data "aws_subnet" "public" {
  count = length(var.public_subnet_ids)

  id = var.public_subnet_ids[count.index]
}

data "aws_subnet" "task" {
  count = length(var.task_subnet_ids)

  id = var.task_subnet_ids[count.index]
}

locals {
  certificate_arn = var.zone_id == null ? var.certificate_arn : aws_acm_certificate_validation.this[0].certificate_arn
}

# The load balancer's door.
resource "aws_security_group" "load_balancer" {
  name        = "${var.name}-load-balancer"
  description = "Clients to the load balancer, and from there to the tasks"
  vpc_id      = var.vpc_id
}

# Clients come by HTTPS.
resource "aws_vpc_security_group_ingress_rule" "https" {
  count = length(var.client_cidrs)

  security_group_id = aws_security_group.load_balancer.id
  description       = "HTTPS from clients"
  cidr_ipv4         = var.client_cidrs[count.index]
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# Who comes by HTTP is told to come by HTTPS.
resource "aws_vpc_security_group_ingress_rule" "http" {
  count = length(var.client_cidrs)

  security_group_id = aws_security_group.load_balancer.id
  description       = "HTTP from clients, redirected"
  cidr_ipv4         = var.client_cidrs[count.index]
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

# The load balancer reaches the tasks, and nothing else.
resource "aws_vpc_security_group_egress_rule" "to_tasks" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "To the tasks"
  referenced_security_group_id = aws_security_group.task.id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
}

# The tasks' door.
resource "aws_security_group" "task" {
  name        = "${var.name}-task"
  description = "The load balancer to the tasks, and from there to store and identity providers"
  vpc_id      = var.vpc_id
}

# Only the load balancer reaches the tasks.
resource "aws_vpc_security_group_ingress_rule" "from_load_balancer" {
  security_group_id            = aws_security_group.task.id
  description                  = "From the load balancer"
  referenced_security_group_id = aws_security_group.load_balancer.id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
}

# The tasks reach store, identity providers, image and AWS.
resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.task.id
  description       = "To store, identity providers, image and AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# A store may listen elsewhere than on 443.
resource "aws_vpc_security_group_egress_rule" "store" {
  count = var.store_port == 443 ? 0 : 1

  security_group_id = aws_security_group.task.id
  description       = "To the store"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = var.store_port
  to_port           = var.store_port
}

# The load balancer. It ends TLS; blobs do not pass through it but for pushes.
resource "aws_lb" "this" {
  name                       = var.name
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = var.public_subnet_ids
  security_groups            = [aws_security_group.load_balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  # Shorter than the 75 s after which the tasks close an idle connection, longer than the 45 s within which they answer.
  idle_timeout = 60

  dynamic "access_logs" {
    for_each = var.access_logs_bucket == null ? [] : [var.access_logs_bucket]

    content {
      bucket  = access_logs.value
      prefix  = var.name
      enabled = true
    }
  }

  lifecycle {
    precondition {
      condition     = length(distinct(data.aws_subnet.public[*].availability_zone)) >= 2
      error_message = "public_subnet_ids all lie in one zone: give subnets of two zones or more."
    }

    precondition {
      condition     = length(distinct(data.aws_subnet.task[*].availability_zone)) >= 2
      error_message = "task_subnet_ids all lie in one zone, whose loss would be the loss of the registry: give subnets of two zones or more."
    }

    precondition {
      condition     = alltrue([for subnet in concat(data.aws_subnet.public[*], data.aws_subnet.task[*]) : subnet.vpc_id == var.vpc_id])
      error_message = "vpc_id is not the VPC of every subnet in public_subnet_ids and task_subnet_ids."
    }
  }
}

# The tasks as the load balancer sees them.
resource "aws_lb_target_group" "this" {
  name        = var.name
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "HTTP"
  port        = var.port
  # A task that is to go takes no new requests, and has this long to finish pushes before it is told to stop.
  deregistration_delay = 120

  # /healthz and not /readyz: while the store is away, tasks serve what they remember, and new ones could not start. A task answers
  # only once policy, keys and store were good.
  health_check {
    path                = "/healthz"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

# HTTPS, with TLS 1.2 or newer.
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = local.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

# HTTP is told to use HTTPS.
resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

# The certificate of the host name. ACM renews it as long as the record below is there.
resource "aws_acm_certificate" "this" {
  count = var.zone_id == null ? 0 : 1

  domain_name       = var.hostname
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

# Proves to ACM that the name is ours.
resource "aws_route53_record" "validation" {
  count = var.zone_id == null ? 0 : 1

  zone_id         = var.zone_id
  name            = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_name
  type            = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_type
  records         = [one(aws_acm_certificate.this[0].domain_validation_options).resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

# Waits until ACM believes it.
resource "aws_acm_certificate_validation" "this" {
  count = var.zone_id == null ? 0 : 1

  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = [aws_route53_record.validation[0].fqdn]
}

# The host name, pointed at the load balancer.
resource "aws_route53_record" "this" {
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
  name    = var.hostname
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}
