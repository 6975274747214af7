mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_ami" {
    defaults = { id = "ami-0123456789abcdef0" }
  }
}

mock_provider "aws" {
  alias = "r2"
}

run "the_machine_is_closed_but_for_the_web_ports" {
  command = plan

  assert {
    condition     = toset([for rule in aws_security_group.this.ingress : rule.to_port]) == toset([80, 443])
    error_message = "Only ports 80 and 443 are let in."
  }

  assert {
    condition     = aws_instance.this.metadata_options[0].http_tokens == "required" && aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "The role of the machine is reached by a session token, and from the machine alone."
  }

  assert {
    condition     = aws_instance.this.root_block_device[0].encrypted
    error_message = "The disk is encrypted."
  }
}

run "the_role_reads_one_parameter" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role_policy.this.policy).Statement == [{
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "arn:aws:ssm:us-east-1:123456789012:parameter/registry/r2"
    }]
    error_message = "The machine may read the parameter with the keys of the bucket, and nothing else."
  }
}

run "the_user_data_is_small_and_holds_no_secret" {
  command = plan

  assert {
    condition     = length(aws_instance.this.user_data_base64) * 3 / 4 < 16384
    error_message = "EC2 takes 16 KiB of user data."
  }

  assert {
    condition     = !can(regex("SECRET_ACCESS_KEY=[^.]", module.registry.user_data)) && strcontains(module.registry.user_data, "EDGEPROXY_STORE=r2://0123456789abcdef0123456789abcdef/acme-registry")
    error_message = "The machine fetches the keys of the bucket itself."
  }

  assert {
    condition     = aws_instance.this.instance_type == "t3.micro" && aws_instance.this.root_block_device[0].volume_size == 10
    error_message = "The machine is the small one whose price the README says."
  }
}
