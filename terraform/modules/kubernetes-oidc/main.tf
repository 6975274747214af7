locals {
  # Fields that were not given are left out, as a policy knows no empty values.
  keys = var.keys == null ? null : { for field, value in {
    inline    = try(jsondecode(var.keys.inline), null)
    file      = var.keys.file
    url       = var.keys.url
    not_after = var.keys.not_after
  } : field => value if value != null }

  issuers = { (var.issuer) = { for field, value in {
    url           = var.url
    audiences     = [var.audience]
    max_token_age = var.max_token_age
    keys          = local.keys
    ca_file       = var.ca_file
  } : field => value if value != null } }

  # One rule for each trust. What has a `*` is a glob; a conditional could not give two types, so it is picked from a list.
  rules = [for trust in var.trusts : { for field, value in {
    name   = trust.name
    issuer = var.issuer
    kubernetes = {
      namespace       = [trust.namespace, { glob = trust.namespace }][strcontains(trust.namespace, "*") ? 1 : 0]
      service_account = [for account in trust.service_accounts : [account, { glob = account }][strcontains(account, "*") ? 1 : 0]]
    }
    allow = [for allow in [
      { repositories = trust.push, actions = ["pull", "push"] },
      { repositories = trust.pull, actions = ["pull"] },
    ] : allow if length(allow.repositories) > 0]
    deliver       = trust.deliver
    token_seconds = trust.token_seconds
  } : field => value if value != null }]

  # Each rule is tried with a service account that it means, and with one of another namespace. `*` stands for one example of itself.
  tests = flatten([for trust in var.trusts : [for expected, namespace in { allow = trust.namespace, deny = "not-${trust.namespace}" } : {
    issuer     = var.issuer
    claims     = { sub = "system:serviceaccount:${replace(namespace, "*", "x")}:${replace(trust.service_accounts[0], "*", "x")}" }
    repository = replace(replace(concat(trust.push, trust.pull)[0], "**", "x"), "*", "x")
    action     = length(trust.push) > 0 ? "push" : "pull"
    expect     = expected
  }]])
}
