locals {
  # An environment alone would let runs of pull requests push, if its protection rules do. So the events are named wherever no ref is.
  events = { for trust in var.trusts : trust.name => (
    trust.events != null || length(trust.push) == 0 || trust.ref != null ? trust.events : tolist(["push", "workflow_dispatch", "release"])
  ) }

  # One rule for each trust. What has a `*` is a glob; a conditional could not give two types, so it is picked from a list. Fields that were not given are left out, as a policy knows no empty values.
  rules = [for trust in var.trusts : {
    name   = trust.name
    issuer = var.issuer
    github = { for field, value in {
      repository_id = trust.repository_id
      owner_id      = trust.owner_id
      ref           = [trust.ref, { glob = trust.ref }][strcontains(coalesce(trust.ref, "-"), "*") ? 1 : 0]
      environment   = trust.environment
      events        = local.events[trust.name]
    } : field => value if value != null }
    allow = [for allow in [
      { repositories = trust.push, actions = ["pull", "push"] },
      { repositories = trust.pull, actions = ["pull"] },
    ] : allow if length(allow.repositories) > 0]
    token_seconds = trust.token_seconds
  }]

  # What a token of that job says, for the tests of the policy: `*` stands for one example of itself.
  claims = { for trust in var.trusts : trust.name => { for claim, value in {
    repository_id       = trust.repository_id
    repository_owner_id = trust.owner_id
    ref                 = trust.ref == null ? null : replace(coalesce(trust.ref, "-"), "*", "x")
    environment         = trust.environment
    event_name          = try(local.events[trust.name][0], null)
  } : claim => value if value != null } }

  # Each rule is tried with its own claims, and with those of another repository.
  tests = flatten([for trust in var.trusts : [for expected, repository_id in { allow = trust.repository_id, deny = "${trust.repository_id}0" } : {
    issuer     = var.issuer
    claims     = merge(local.claims[trust.name], { repository_id = repository_id })
    repository = replace(replace(concat(trust.push, trust.pull)[0], "**", "x"), "*", "x")
    action     = length(trust.push) > 0 ? "push" : "pull"
    expect     = expected
  }]])
}
