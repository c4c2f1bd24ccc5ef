# The daemon on every client that may lease machines: nomad job run omertad.nomad.hcl
#
# The exec driver would put QEMU behind a second isolation that it does not need and direct mode cannot use; raw_exec with a
# user keeps the daemon the ordinary process that it is. The client's configuration has to allow it:
#   plugin "raw_exec" { config { enabled = true } }
job "omertad" {
  type        = "system"
  datacenters = ["*"]

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  group "daemon" {
    # An update restarts the daemon, so it goes node by node.
    update {
      max_parallel = 1
      stagger      = "60s"
    }

    # The client's configuration names loopback: host_network "loopback" { cidr = "127.0.0.1/32" }
    network {
      mode = "host"
      port "http" {
        static       = 8470
        host_network = "loopback"
      }
    }

    # The port is on loopback: the client's own agent checks it, nobody else reaches it. Metrics are at /metrics, with the
    # token, for a Prometheus on the node (deploy/prometheus).
    service {
      name     = "omertad"
      provider = "nomad"
      port     = "http"
      check {
        type     = "http"
        path     = "/readyz"
        interval = "15s"
        timeout  = "3s"
        header {
          Host = ["127.0.0.1:8470"]
        }
      }
    }

    task "serve" {
      driver = "raw_exec"
      user   = "lessor"
      config {
        command = "/usr/bin/omertad"
        args    = ["serve", "--config", "/etc/omertad/omertad.json"]
      }
      env {
        HOME = "/var/lib/lessor"
      }
      # Machines get the power button first.
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"
      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
