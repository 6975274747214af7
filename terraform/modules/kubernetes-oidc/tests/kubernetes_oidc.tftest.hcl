# No provider is needed: the module renders text.

variables {
  audience = "registry.example.com"
  url      = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABC"
  trusts   = [{ name = "production-pulls", namespace = "prod-*", service_accounts = ["deployer"], pull = ["acme/**"] }]
}

run "a_rule_holds_what_was_given_and_nothing_empty" {
  command = plan

  assert {
    condition     = jsonencode(output.policy.rules[0].kubernetes) == jsonencode({ namespace = { glob = "prod-*" }, service_account = ["deployer"] })
    error_message = "A star makes a glob, and a name stays a name."
  }

  assert {
    condition     = !contains(keys(output.policy.issuers.cluster), "keys") && output.policy.issuers.cluster.max_token_age == "24h"
    error_message = "Keys come from discovery, and a token is a day old at most."
  }

  assert {
    condition     = [for each in output.policy.tests : "${each.claims.sub} ${each.expect}"] == ["system:serviceaccount:prod-x:deployer allow", "system:serviceaccount:not-prod-x:deployer deny"]
    error_message = "Each rule is tried with a service account that it means, and with one of another namespace."
  }

  assert {
    condition     = strcontains(output.pods["production-pulls"], "serviceAccountToken: {audience: registry.example.com,")
    error_message = "The pod asks for a token for this registry."
  }
}

run "everything_given_is_accepted" {
  command = plan

  variables {
    audience      = "localhost:5000"
    issuer        = "production"
    url           = "https://kubernetes.default.svc"
    keys          = { inline = "{\"keys\": [{\"kty\": \"RSA\", \"kid\": \"one\", \"n\": \"AQ\", \"e\": \"AQAB\"}]}", not_after = "2099-01-01" }
    max_token_age = "1h"
    ca_file       = "cluster-ca.pem"
    trusts        = [{ name = "one", namespace = "production", service_accounts = ["deployer"], pull = ["acme/**"], deliver = "proxy", token_seconds = 60 }, { name = "two", namespace = "production", service_accounts = ["*"], push = ["acme/built/**"] }]
  }
}

run "keys_beside_the_policy_are_accepted" {
  command = plan

  variables {
    keys = { file = "cluster-jwks.json" }
  }
}

run "an_audience_is_a_host" {
  command = plan

  variables {
    audience = "https://registry.example.com"
  }

  expect_failures = [var.audience]
}

run "an_issuer_is_a_name" {
  command = plan

  variables {
    issuer = "https://kubernetes.default.svc"
  }

  expect_failures = [var.issuer]
}

run "a_url_is_one" {
  command = plan

  variables {
    url = "kubernetes.default.svc"
  }

  expect_failures = [var.url]
}

run "keys_that_cannot_be_fetched_are_given" {
  command = plan

  variables {
    url = "https://kubernetes.default.svc"
  }

  expect_failures = [var.url]
}

run "keys_come_from_one_place" {
  command = plan

  variables {
    keys = { file = "cluster-jwks.json", inline = "{\"keys\": [{\"kty\": \"RSA\", \"kid\": \"one\", \"n\": \"AQ\", \"e\": \"AQAB\"}]}" }
  }

  expect_failures = [var.keys]
}

run "inline_keys_are_a_jwks" {
  command = plan

  variables {
    keys = { inline = "cluster-jwks.json" }
  }

  expect_failures = [var.keys]
}

run "private_keys_are_refused" {
  command = plan

  variables {
    keys = { inline = "{\"keys\": [{\"kty\": \"RSA\", \"kid\": \"one\", \"n\": \"AQ\", \"e\": \"AQAB\", \"d\": \"AQ\"}]}" }
  }

  expect_failures = [var.keys]
}

run "the_end_of_keys_is_a_date" {
  command = plan

  variables {
    keys = { inline = "{\"keys\": [{\"kty\": \"RSA\", \"kid\": \"one\", \"n\": \"AQ\", \"e\": \"AQAB\"}]}", not_after = "soon" }
  }

  expect_failures = [var.keys]
}

run "an_age_has_its_unit" {
  command = plan

  variables {
    max_token_age = "3600"
  }

  expect_failures = [var.max_token_age]
}

run "an_authority_is_a_file" {
  command = plan

  variables {
    ca_file = "-----BEGIN CERTIFICATE-----"
  }

  expect_failures = [var.ca_file]
}

run "names_are_different" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "production", service_accounts = ["deployer"], pull = ["acme/**"] }, { name = "one", namespace = "production", service_accounts = ["deployer"], pull = ["acme/**"] }]
  }

  expect_failures = [var.trusts]
}

run "a_name_is_a_few_words" {
  command = plan

  variables {
    trusts = [{ name = "a: b", namespace = "production", service_accounts = ["deployer"], pull = ["acme/**"] }]
  }

  expect_failures = [var.trusts]
}

run "every_namespace_at_once_is_refused" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "*", service_accounts = ["deployer"], pull = ["acme/**"] }]
  }

  expect_failures = [var.trusts]
}

run "service_accounts_are_named" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "production", service_accounts = [], pull = ["acme/**"] }]
  }

  expect_failures = [var.trusts]
}

run "a_trust_is_for_something" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "production", service_accounts = ["deployer"] }]
  }

  expect_failures = [var.trusts]
}

run "all_repositories_at_once_are_refused" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "production", service_accounts = ["deployer"], pull = ["**"] }]
  }

  expect_failures = [var.trusts]
}

run "delivery_is_one_of_two" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "production", service_accounts = ["deployer"], pull = ["acme/**"], deliver = "fast" }]
  }

  expect_failures = [var.trusts]
}

run "a_sign_in_lasts_a_day_at_most" {
  command = plan

  variables {
    trusts = [{ name = "one", namespace = "production", service_accounts = ["deployer"], pull = ["acme/**"], token_seconds = 86401 }]
  }

  expect_failures = [var.trusts]
}
