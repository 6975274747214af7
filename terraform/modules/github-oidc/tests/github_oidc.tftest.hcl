# No provider is needed: the module renders text.

variables {
  audience = "registry.example.com"
  trusts   = [{ name = "main-pushes", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"] }]
}

run "a_rule_holds_what_was_given_and_nothing_empty" {
  command = plan

  assert {
    condition     = jsonencode(output.policy.rules[0].github) == jsonencode({ ref = "refs/heads/main", repository_id = "81234567" })
    error_message = "The rule compares the claims that were given."
  }

  assert {
    condition     = output.policy.rules[0].token_seconds == 3600 && output.policy.issuers.github.url == "https://token.actions.githubusercontent.com"
    error_message = "A sign-in lasts an hour, and the issuer is GitHub."
  }

  assert {
    condition     = [for each in output.policy.tests : "${each.claims.repository_id} ${each.expect}"] == ["81234567 allow", "812345670 deny"]
    error_message = "Each rule is tried with its repository and with another."
  }

  assert {
    condition     = strcontains(output.workflows["main-pushes"], "id-token: write") && strcontains(output.workflows["main-pushes"], "&audience=registry.example.com")
    error_message = "The job asks for a token for this registry."
  }
}

run "an_environment_alone_lets_no_pull_request_push" {
  command = plan

  variables {
    trusts = [{ name = "production", repository_id = "81234567", environment = "production", push = ["acme/app"] }]
  }

  assert {
    condition     = !contains(output.policy.rules[0].github.events, "pull_request")
    error_message = "Where no ref is given, the events are."
  }
}

run "everything_given_is_accepted" {
  command = plan

  variables {
    audience = "localhost:5000"
    issuer   = "ghes"
    url      = "https://github.example.com/_services/token"
    trusts   = [{ name = "one", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"], owner_id = "1", events = ["push"], token_seconds = 60 }, { name = "two", repository_id = "81234567", push = ["acme/web/**"], environment = "production", pull = ["acme/base"] }, { name = "three", repository_id = "81234567", pull = ["acme/*"] }]
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
    issuer = "https://token.actions.githubusercontent.com"
  }

  expect_failures = [var.issuer]
}

run "a_url_has_no_slash_at_its_end" {
  command = plan

  variables {
    url = "https://github.example.com/_services/token/"
  }

  expect_failures = [var.url]
}

run "names_are_different" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"] }, { name = "one", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"] }]
  }

  expect_failures = [var.trusts]
}

run "a_name_is_a_few_words" {
  command = plan

  variables {
    trusts = [{ name = "a: b", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"] }]
  }

  expect_failures = [var.trusts]
}

run "a_repository_is_a_number" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "acme/app", ref = "refs/heads/main", push = ["acme/app"] }]
  }

  expect_failures = [var.trusts]
}

run "a_trust_is_for_something" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "81234567", ref = "refs/heads/main" }]
  }

  expect_failures = [var.trusts]
}

run "who_pushes_says_from_where" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "81234567", push = ["acme/app"] }]
  }

  expect_failures = [var.trusts]
}

run "pull_requests_do_not_push" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"], events = ["push", "pull_request"] }]
  }

  expect_failures = [var.trusts]
}

run "all_repositories_at_once_are_refused" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "81234567", ref = "refs/heads/main", push = ["**"] }]
  }

  expect_failures = [var.trusts]
}

run "a_sign_in_lasts_a_day_at_most" {
  command = plan

  variables {
    trusts = [{ name = "one", repository_id = "81234567", ref = "refs/heads/main", push = ["acme/app"], token_seconds = 86401 }]
  }

  expect_failures = [var.trusts]
}
