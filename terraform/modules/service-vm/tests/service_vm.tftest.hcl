# No provider is needed: the module renders text.

variables {
  domain = "registry.example.com"
  image  = "registry.example.org/edgeproxy:1"
  store  = "r2://0123456789abcdef0123456789abcdef/my-registry"
}

run "the_defaults_are_the_safe_ones" {
  command = plan

  assert {
    condition     = startswith(output.user_data, "#cloud-config\n") && length(output.user_data) < 16384
    error_message = "User data begins with #cloud-config, and EC2 takes 16 KiB."
  }

  assert {
    condition     = !can(regex("dport 22", output.files["/etc/edgeproxy/firewall.nft"])) && strcontains(output.files["/etc/edgeproxy/firewall.nft"], "tcp dport { 80, 443 } accept")
    error_message = "Only the web ports are open."
  }

  assert {
    condition = alltrue([for option in [
      "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=",
    ] : strcontains(output.files["/usr/local/sbin/edgeproxy-vm"], option)])
    error_message = "The container is confined."
  }

  assert {
    condition     = strcontains(output.files["/etc/edgeproxy/edgeproxy.env"], "EDGEPROXY_BIND=127.0.0.1:5000\n") && strcontains(output.files["/etc/edgeproxy/edgeproxy.env"], "EDGEPROXY_TRUSTED_PROXIES=127.0.0.1/32\n")
    error_message = "Only Caddy, on the same machine, reaches the registry, and it alone is believed."
  }

  assert {
    condition     = !strcontains(output.files["/etc/edgeproxy/Caddyfile"], "tls internal") && strcontains(output.files["/etc/edgeproxy/Caddyfile"], "admin off")
    error_message = "The certificate is a public one, and Caddy's admin address is off."
  }

  assert {
    condition     = strcontains(output.files["/etc/systemd/system/edgeproxy-upgrade.timer"], "OnCalendar=*-*-* 03:30:00\n")
    error_message = "It looks for a new digest each night."
  }

  assert {
    condition     = alltrue([for path in ["/etc/edgeproxy/credentials-command", "/etc/systemd/system/edgeproxy-credentials.path"] : !contains(keys(output.files), path)])
    error_message = "Credentials come from the role of the machine."
  }
}

run "nothing_is_upgraded_where_no_time_is_given" {
  command = plan

  variables {
    upgrade_at = null
  }

  assert {
    condition     = !contains(keys(output.files), "/etc/systemd/system/edgeproxy-upgrade.timer") && !strcontains(output.user_data, "edgeproxy-upgrade.timer")
    error_message = "Without a time there is no timer."
  }
}

run "a_file_of_credentials_is_waited_for" {
  command = plan

  variables {
    credentials = { from = "file" }
  }

  assert {
    condition     = strcontains(output.files["/etc/systemd/system/edgeproxy.service"], "ConditionPathExists=/etc/edgeproxy/credentials.env") && strcontains(output.user_data, "edgeproxy-credentials.path")
    error_message = "edgeproxy starts when the file is written."
  }
}

run "a_digest_is_accepted" {
  command = plan

  variables {
    domain = "a-b.c1.example"
    image  = "localhost:5000/team/edgeproxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    store  = "s3://bucket/prefix?region=eu-central-1"
  }
}

run "a_policy_and_its_files_are_accepted" {
  command = plan

  variables {
    policy       = "version: 1\nissuers: {}\n"
    policy_files = { "cluster-jwks.json" = "{}" }
  }
}

run "a_command_is_accepted" {
  command = plan

  variables {
    credentials = { from = "command", command = "aws ssm get-parameter --with-decryption --name /registry/r2 --query Parameter.Value --output text" }
  }
}

run "a_file_is_accepted" {
  command = plan

  variables {
    credentials = { from = "file" }
  }
}

run "keys_settings_and_the_rest_are_accepted" {
  command = plan

  variables {
    signing_keys_path = "/mnt/keys"
    settings          = { EDGEPROXY_REDIRECT_SECONDS = "120", AWS_REGION = "auto" }
    upgrade_at        = "Sun 04:00"
    certificate       = "internal"
    acme_email        = "ops@example.com"
    ssh_from          = ["192.0.2.0/24", "2001:db8::/64"]
    packages          = ["awscli"]
  }
}

run "a_domain_is_no_url" {
  command = plan

  variables {
    domain = "https://registry.example.com"
  }

  expect_failures = [var.domain]
}

run "an_image_names_its_host" {
  command = plan

  variables {
    image = "edgeproxy:1"
  }

  expect_failures = [var.image]
}

run "a_store_is_a_bucket" {
  command = plan

  variables {
    store = "r2://my-registry"
  }

  expect_failures = [var.store]
}

run "a_policy_is_text_not_a_name" {
  command = plan

  variables {
    policy = "policy.yaml"
  }

  expect_failures = [var.policy]
}

run "policy_files_are_plain_names" {
  command = plan

  variables {
    policy       = "version: 1\n"
    policy_files = { "../cluster-jwks.json" = "{}" }
  }

  expect_failures = [var.policy_files]
}

run "policy_files_belong_to_a_policy_on_the_machine" {
  command = plan

  variables {
    policy_files = { "cluster-jwks.json" = "{}" }
  }

  expect_failures = [var.policy_files]
}

run "credentials_come_from_one_of_three" {
  command = plan

  variables {
    credentials = { from = "state" }
  }

  expect_failures = [var.credentials]
}

run "a_command_wants_its_command" {
  command = plan

  variables {
    credentials = { from = "command" }
  }

  expect_failures = [var.credentials]
}

run "a_secret_in_the_command_is_refused" {
  command = plan

  variables {
    credentials = { from = "command", command = "printf 'AWS_ACCESS_KEY_ID=AKIDEXAMPLE\\nAWS_SECRET_ACCESS_KEY=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'" }
  }

  expect_failures = [var.credentials]
}

run "keys_are_a_folder" {
  command = plan

  variables {
    signing_keys_path = "keys"
  }

  expect_failures = [var.signing_keys_path]
}

run "a_setting_has_its_prefix" {
  command = plan

  variables {
    settings = { REDIRECT_SECONDS = "120" }
  }

  expect_failures = [var.settings]
}

run "what_the_module_sets_is_not_set_twice" {
  command = plan

  variables {
    settings = { EDGEPROXY_BIND = "0.0.0.0:5000" }
  }

  expect_failures = [var.settings]
}

run "keys_of_the_bucket_are_no_setting" {
  command = plan

  variables {
    settings = { AWS_SECRET_ACCESS_KEY = "x" }
  }

  expect_failures = [var.settings]
}

run "a_setting_is_one_line" {
  command = plan

  variables {
    settings = { EDGEPROXY_LOG_LEVEL = "info\nEDGEPROXY_BIND=0.0.0.0:5000" }
  }

  expect_failures = [var.settings]
}

run "a_time_is_one_line" {
  command = plan

  variables {
    upgrade_at = "daily\n[Install]"
  }

  expect_failures = [var.upgrade_at]
}

run "there_is_no_way_without_a_certificate" {
  command = plan

  variables {
    certificate = "none"
  }

  expect_failures = [var.certificate]
}

run "an_address_is_one_address" {
  command = plan

  variables {
    acme_email = "ops"
  }

  expect_failures = [var.acme_email]
}

run "ssh_is_never_open_to_all" {
  command = plan

  variables {
    ssh_from = ["0.0.0.0/0"]
  }

  expect_failures = [var.ssh_from]
}

run "a_package_is_a_name" {
  command = plan

  variables {
    packages = ["awscli; reboot"]
  }

  expect_failures = [var.packages]
}
