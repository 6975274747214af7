output "policy" {
  description = "A part of a policy: `issuers`, `rules` and `tests`. See the README for how parts become one document."
  value       = { issuers = local.issuers, rules = local.rules, tests = local.tests }
}

output "policy_yaml" {
  description = "The same as a whole document, for `edgeproxy policy lint` and `test`, or if this is all that the registry trusts."
  value       = yamlencode({ version = 1, issuers = local.issuers, rules = local.rules, tests = local.tests })
}

output "pods" {
  description = "The part of a pod that signs in, for each entry of trusts by its name: the kubelet keeps the token fresh."
  value = { for trust in var.trusts : trust.name => templatefile("${path.module}/files/pod.yaml.tftpl", {
    audience        = var.audience
    namespace       = replace(trust.namespace, "*", "NAME")
    service_account = replace(trust.service_accounts[0], "*", "NAME")
    repository      = replace(replace(concat(trust.push, trust.pull)[0], "**", "NAME"), "*", "NAME")
  }) }
}
