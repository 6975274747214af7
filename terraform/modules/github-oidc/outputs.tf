output "policy" {
  description = "A part of a policy: `issuers`, `rules` and `tests`. See the README for how parts become one document."
  value = {
    issuers = { (var.issuer) = { url = var.url, audiences = [var.audience] } }
    rules   = local.rules
    tests   = local.tests
  }
}

output "policy_yaml" {
  description = "The same as a whole document, for `edgeproxy policy lint` and `test`, or if this is all that the registry trusts."
  value = yamlencode({
    version = 1
    issuers = { (var.issuer) = { url = var.url, audiences = [var.audience] } }
    rules   = local.rules
    tests   = local.tests
  })
}

output "workflows" {
  description = "The job to put into `.github/workflows`, for each entry of trusts by its name."
  value = { for trust in var.trusts : trust.name => templatefile("${path.module}/files/workflow.yaml.tftpl", {
    audience    = var.audience
    environment = trust.environment
    push        = length(trust.push) > 0
    repository  = replace(replace(concat(trust.push, trust.pull)[0], "**", "NAME"), "*", "NAME")
  }) }
}
