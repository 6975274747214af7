locals {
  # The folder of signing keys, and whether a key may be made in it.
  keys      = coalesce(var.signing_keys_path, "/var/lib/edgeproxy/keys")
  make_keys = var.signing_keys_path == null

  credentials_file = { role = "", command = "/run/edgeproxy/credentials.env", file = "/etc/edgeproxy/credentials.env" }[var.credentials.from]

  # Defaults of the module first, then what the caller adds; validation keeps the two apart.
  settings = merge(
    {
      EDGEPROXY_BIND            = "127.0.0.1:5000"
      EDGEPROXY_OPERATIONS_BIND = "127.0.0.1:9000"
      EDGEPROXY_PUBLIC_URL      = "https://${var.domain}"
      EDGEPROXY_STORE           = var.store
      EDGEPROXY_POLICY          = var.policy == "store:" ? "store:" : "/etc/edgeproxy/policy/policy.yaml"
      EDGEPROXY_SIGNING_KEYS    = "/var/lib/edgeproxy/keys"
      EDGEPROXY_TRUSTED_PROXIES = "127.0.0.1/32"
      EDGEPROXY_AUDIT           = "stdout"
      EDGEPROXY_LOG_FORMAT      = "json"
    },
    var.settings,
  )

  policy_files = var.policy == "store:" ? {} : merge(var.policy_files, { "policy.yaml" = var.policy })

  # What is the same on every machine.
  constant = {
    "/usr/local/sbin/edgeproxy-vm"                   = { content = file("${path.module}/files/edgeproxy-vm"), mode = "0755" }
    "/etc/systemd/system/edgeproxy-firewall.service" = { content = file("${path.module}/files/edgeproxy-firewall.service"), mode = "0644" }
    "/etc/systemd/system/edgeproxy-upgrade.service"  = { content = file("${path.module}/files/edgeproxy-upgrade.service"), mode = "0644" }
    "/etc/systemd/system/caddy.service.d/edgeproxy.conf" = {
      content = file("${path.module}/files/caddy-edgeproxy.conf"), mode = "0644"
    }
  }

  # What follows from the variables.
  rendered = {
    "/etc/edgeproxy/edgeproxy.env" = { content = join("", [for name, value in local.settings : "${name}=${value}\n"]), mode = "0644" }
    "/etc/edgeproxy/vm.env" = {
      content = templatefile("${path.module}/files/vm.env.tftpl", {
        image = var.image, keys = local.keys, make_keys = local.make_keys, credentials = var.credentials.from, credentials_file = local.credentials_file
      })
      mode = "0644"
    }
    "/etc/edgeproxy/Caddyfile" = {
      content = templatefile("${path.module}/files/Caddyfile.tftpl", { domain = var.domain, email = var.acme_email, internal = var.certificate == "internal" })
      mode    = "0644"
    }
    "/etc/edgeproxy/firewall.nft" = {
      content = templatefile("${path.module}/files/firewall.nft.tftpl", {
        v4 = [for network in var.ssh_from : network if !strcontains(network, ":")], v6 = [for network in var.ssh_from : network if strcontains(network, ":")]
      })
      mode = "0644"
    }
    "/etc/systemd/system/edgeproxy.service" = {
      content = templatefile("${path.module}/files/edgeproxy.service.tftpl", { wait_for = var.credentials.from == "file" ? local.credentials_file : null })
      mode    = "0644"
    }
  }

  # What is there only if it is asked for.
  optional = merge(
    { for name, content in local.policy_files : "/etc/edgeproxy/policy/${name}" => { content = content, mode = "0644" } },
    var.upgrade_at == null ? {} : {
      "/etc/systemd/system/edgeproxy-upgrade.timer" = {
        content = templatefile("${path.module}/files/edgeproxy-upgrade.timer.tftpl", { at = var.upgrade_at }), mode = "0644"
      }
    },
    var.credentials.from != "command" ? {} : {
      "/etc/edgeproxy/credentials-command" = { content = "#!/bin/sh\n${trimspace(coalesce(var.credentials.command, "-"))}\n", mode = "0700" }
    },
    var.credentials.from != "file" ? {} : {
      "/etc/systemd/system/edgeproxy-credentials.path"    = { content = file("${path.module}/files/edgeproxy-credentials.path"), mode = "0644" }
      "/etc/systemd/system/edgeproxy-credentials.service" = { content = file("${path.module}/files/edgeproxy-credentials.service"), mode = "0644" }
    },
  )

  files = merge(local.constant, local.rendered, local.optional)

  started = concat(
    ["edgeproxy-firewall.service", "edgeproxy.service"],
    var.upgrade_at == null ? [] : ["edgeproxy-upgrade.timer"],
    var.credentials.from == "file" ? ["edgeproxy-credentials.path"] : [],
  )

  user_data = "#cloud-config\n${yamlencode({
    package_update  = true
    package_upgrade = true
    # Caddy and podman are those of the distribution, so that its unattended upgrades keep them safe.
    packages     = distinct(concat(["caddy", "ca-certificates", "curl", "nftables", "podman", "unattended-upgrades"], var.packages))
    disable_root = true
    ssh_pwauth   = false
    write_files  = [for path, file in local.files : { path = path, content = file.content, permissions = file.mode, owner = "root:root" }]
    runcmd = [
      ["systemctl", "daemon-reload"],
      concat(["systemctl", "enable", "--now", "--no-block"], local.started),
      # Caddy was started with the distribution's own configuration when it was installed.
      ["systemctl", "restart", "--no-block", "caddy.service"],
    ]
  })}"
}
