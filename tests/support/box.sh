#!/bin/bash
# A real systemd as PID 1 of private namespaces, over a throw-away overlay of this machine's root.
#
#   box.sh up   STATE [--root=DIR] [--layer=DIR] [--bind=SRC:DST]...
#                                                         boot; STATE is a directory for its pid, log and mounts
#   box.sh exec STATE CMD...                              run CMD inside, in all namespaces but that of the network
#   box.sh down STATE                                     kill its PID 1, remove its cgroup and STATE
#   box.sh can                                            try whether this machine allows it
#
# Needs root with CAP_SYS_ADMIN, overlayfs, systemd, util-linux. The network is this machine's: servers and clients of a
# test stand outside. What is written inside lands in a tmpfs that dies with the mount namespace; the kernel reaps
# everything with PID 1. Half a second to boot. Newer packages can be laid over the root by --layer (see layer.sh);
# --root is a directory with another distribution, in place of this machine's root.
set -u
die() { echo "box: $*" >&2; exit 1; }

cmd_up() {
  local st=$1; shift
  local root=/ layer=/ binds=() a
  for a in "$@"; do case $a in
    --root=*) root=${a#*=};; --layer=*) layer=${a#*=};; --bind=*) binds+=("${a#*=}");;
    *) die "unknown option $a";; esac; done
  mkdir -p "$st/mnt" || die "no state directory"
  local u; u=$(findmnt -rn -t cgroup2 -o TARGET | head -1)
  # LIBMOUNT_UTAB, or mount(8) leaves an empty /run/mount behind
  [ -n "$u" ] || { u=$st/cgroup2; mkdir "$u"; LIBMOUNT_UTAB=$st/utab mount -t cgroup2 none "$u" || die "no cgroup2"; }
  local cgroup=$u/lbproxy-box-$$
  echo "$cgroup" >"$st/cgroup"
  mkdir "$cgroup" || die "mkdir $cgroup"
  (
    # below this cgroup the systemd inside sees "/", through its cgroup namespace
    echo $BASHPID >"$cgroup/cgroup.procs" || exit 1
    exec setsid unshare --mount --propagation private --cgroup --uts --ipc --pid --fork --kill-child=SIGKILL \
      "$BASH" "$0" init "$st" "$root" "$layer" ${binds[@]+"${binds[@]}"}
  ) >"$st/console.log" 2>&1 </dev/null &
  local up=$! pid= i state=
  for ((i = 0; i < 1000; i++)); do
    kill -0 $up 2>/dev/null || { cat "$st/console.log" >&2; die "boot failed"; }
    pid=$(cat /proc/$up/task/$up/children 2>/dev/null); pid=${pid%% *}
    if [ -n "$pid" ]; then
      echo "$pid" >"$st/pid"
      if [ "$(cat /proc/"$pid"/comm 2>/dev/null)" = systemd ]; then
        state=$( (cmd_exec "$st" systemctl is-system-running) 2>/dev/null)
        case $state in running|degraded) return 0;; esac
      fi
    fi
    sleep 0.02
  done
  tail -20 "$st/console.log" >&2; die "not up: '$state'"
}

cmd_init() {  # runs as PID 1 of the new namespaces; builds the root and becomes systemd
  local st=$1 root=$2 layer=$3; shift 3
  set -e; export LIBMOUNT_UTAB=$st/utab
  local m=$st/mnt r d b
  mount -t tmpfs -o mode=0755 box "$m"
  mkdir "$m/up" "$m/work" "$m/root"; r=$m/root
  [ "$layer" = / ] || cp -a "$layer/." "$m/up/"  # a lower layer that lies below / cannot be stacked over / (ELOOP)
  mount -t overlay overlay -o lowerdir="$root",upperdir="$m/up",workdir="$m/work" "$r"
  mount -t proc -o nosuid,nodev,noexec proc "$r/proc"
  # read-only: systemd would raise fs.nr_open and fs.file-max, which are the machine's
  mount --bind "$r/proc/sys" "$r/proc/sys"; mount -o remount,bind,ro "$r/proc/sys"
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$r/sys" 2>/dev/null || mount --rbind /sys "$r/sys"
  # its own /dev: in the shared one it would make /dev/log and /dev/initctl
  mount -t tmpfs -o mode=0755,nosuid dev "$r/dev"
  for d in null zero full random urandom tty; do touch "$r/dev/$d"; mount --bind "/dev/$d" "$r/dev/$d"; done
  mkdir "$r/dev/pts" "$r/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$r/dev/pts"; ln -s pts/ptmx "$r/dev/ptmx"
  mount -t tmpfs -o mode=1777,nosuid,nodev shm "$r/dev/shm"
  ln -s /proc/self/fd "$r/dev/fd"; ln -s fd/0 "$r/dev/stdin"; ln -s fd/1 "$r/dev/stdout"; ln -s fd/2 "$r/dev/stderr"
  mount -t tmpfs -o mode=0755,nosuid,nodev run "$r/run"
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$r/sys/fs/cgroup"
  for b in "$@"; do
    local src=${b%%:*} dst=$r${b#*:}
    if [ -d "$src" ]; then mkdir -p "$dst"; else mkdir -p "$(dirname "$dst")"; touch "$dst"; fi
    mount --rbind "$src" "$dst"
  done
  # /tmp last: what is bound may lie in this machine's
  mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$r/tmp"
  # its own boot target: the journal and basic.target, nothing of what this machine would start
  mkdir -p "$r/run/systemd/system"
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >"$r/run/systemd/system/box.target"
  for d in systemd-timesyncd systemd-firstboot systemd-update-utmp systemd-machine-id-commit systemd-pstore \
    systemd-repart systemd-binfmt systemd-random-seed systemd-modules-load systemd-sysctl systemd-sysusers \
    kmod-static-nodes systemd-journal-flush systemd-tmpfiles-setup-dev; do
    ln -s /dev/null "$r/run/systemd/system/$d.service"; done
  for d in proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount cryptsetup.target \
    integritysetup.target veritysetup.target systemd-ask-password-console.path timers.target systemd-initctl.socket \
    systemd-journald-audit.socket; do ln -s /dev/null "$r/run/systemd/system/$d"; done
  : >"$r/etc/fstab"; echo box >"$r/etc/hostname"; rm -f "$r/etc/machine-id"; : >"$r/etc/machine-id"
  rm -rf "$r/var/log/journal"
  hostname box
  # pivot_root and not chroot: PrivateTmp and ProtectSystem need a real root
  mkdir -p "$r/.old"; cd "$r"; pivot_root . .old; umount -l /.old; rmdir /.old
  mount --make-rshared /  # as on a real boot; systemd leaves this to whoever makes its namespaces
  exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --system --unit=box.target --show-status=no
}

cmd_exec() {
  local pid; pid=$(cat "$1/pid") || die "not up"; shift
  exec nsenter -t "$pid" -m -u -i -p -C -r -w -- env -i container=box HOME=/root TERM=dumb LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER= "$@"
}

cmd_down() {
  local st=$1 pid d i; [ -d "$st" ] || return 0
  pid=$(cat "$st/pid" 2>/dev/null)
  if [ -n "$pid" ]; then
    kill -KILL "$pid" 2>/dev/null
    for ((i = 0; i < 250; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.02; done
  fi
  d=$(cat "$st/cgroup" 2>/dev/null)
  for ((i = 0; i < 100; i++)); do
    [ -d "$d" ] || break
    find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null
    [ -d "$d" ] && sleep 0.02
  done
  [ -d "$d" ] && echo "box: left $d" >&2
  mountpoint -q "$st/cgroup2" && LIBMOUNT_UTAB=$st/utab umount "$st/cgroup2"
  rm -rf --one-file-system "$st"
}

cmd_can() {
  unshare --mount --cgroup --pid --fork "$BASH" -ec '
    export LIBMOUNT_UTAB=/tmp/utab
    mount -t tmpfs box /tmp; mkdir /tmp/up /tmp/work /tmp/root /tmp/cgroup
    mount -t overlay overlay -o lowerdir=/,upperdir=/tmp/up,workdir=/tmp/work /tmp/root
    mount -t cgroup2 cgroup2 /tmp/cgroup; mkdir "/tmp/cgroup/$0"; rmdir "/tmp/cgroup/$0"' "lbproxy-box-$$"
}

command=$1; shift
case $command in up|init|exec|down|can) "cmd_$command" "$@";; *) sed -n 2,9p "$0"; exit 2;; esac
