# SPDX-License-Identifier: Apache-2.0
# What stands in the way of a load is found before anything is done, and named with its remedy.
note "no agent runs"
refused_by_host 'agent' load vm1 --mode module

note "the agent may not run programs, as some distributions have it"
start_agent --block-rpcs=guest-exec
refused_by_host 'guest-exec' load vm1 --mode module
no_module_loaded || fail "a module is here"
stop_agent

note "there is no build for this kernel"
start_agent
host no_builds
refused_by_host "$(uname -r)" load vm1 --mode module

note "the build is for another kernel, or one configured otherwise: all are named, and nothing was sent"
host own_builds
host other_builds 56-amd64 99-amd64
refused_by_host "$(uname -r) SMP.*-99-amd64" load vm1 --mode module
host own_builds
host foreign_builds 56-amd64 99-amd64
host other_builds SMP UMP
refused_by_host "$(uname -r) UMP.*$(uname -r) SMP.*other builds.*-99-amd64" load vm1 --mode module
! dmesg | grep -qi vermagic || fail "the kernel was asked"
equal "modules in the guest" "$(find /run /tmp /var -name 'vusb_*.ko*')" ""

note "the kernel takes signed modules only"
host own_builds
refused_by_host 'sign' load vm1 --mode module
no_module_loaded || fail "a module is here"
equal "state" "$(host ctl guests --json | jq -r '.[0].state')" failed
equal "modules in the guest" "$(find /run /tmp /var -name 'vusb_*.ko*')" ""
! grep -q ' /vusb ' /proc/mounts || fail "/vusb is still mounted"
