# One lease as a batch job: nomad job run lease.nomad.hcl, then nomad job dispatch omertad-lease lease.json
#
# Nomad chooses the node; `omertad run` asks its daemon and stays until the lease ends. Stopping the job releases the
# lease. Exit code 10 (no room on this node now) and the other codes of omertad(1) fail the task, and the job is
# rescheduled to another node.
job "omertad-lease" {
  type        = "batch"
  datacenters = ["*"]

  parameterized {
    payload       = "required"
    meta_optional = ["customer"]
  }

  group "lease" {
    # Not again on the same node: a lease that ended has its reason.
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts       = 3
      interval       = "1h"
      delay          = "10s"
      delay_function = "exponential"
      unlimited      = false
    }

    task "run" {
      driver = "raw_exec"
      user   = "lessor" # the daemon's: its socket is for nobody else
      dispatch_payload {
        file = "lease.json"
      }
      config {
        command = "/usr/bin/omertad"
        args    = ["run", "--json", "--config", "/etc/omertad/omertad.json", "${NOMAD_TASK_DIR}/lease.json"]
      }
      env {
        HOME = "/var/lib/lessor"
      }
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"
      # What the scheduler counts; the daemon has the last word by its own capacity.
      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
