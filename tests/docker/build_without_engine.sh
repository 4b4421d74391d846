#!/usr/bin/env bash
# Build the Dockerfile's targets where there is neither a container engine nor a registry, and run the cpu image.
#
# buildah executes the RUN steps (chroot isolation, as root). A Debian with its own Python, made by debootstrap, stands in
# for the Python image under that image's name. The gpu target gets torch's CPU build instead of gigabytes of CUDA: its
# other steps are executed as they are.
#
# Usage: tests/docker/build_without_engine.sh [WORK]      WORK (default build/docker) keeps the base and the layers.
# TORCH_CPU_LINKS: where torch's CPU wheels are, a page or a folder (default: the Dockerfile's page).
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(realpath -m "${1:-build/docker}")
image=$(sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)
links=${TORCH_CPU_LINKS:-$(sed -n 's/^ARG TORCH_CPU_LINKS=//p' Dockerfile)}
mirror=http://deb.debian.org/debian
user=1000

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "debootstrap and chroot isolation need root"
if ! { command -v buildah && command -v debootstrap; } >/dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah debootstrap >/dev/null
fi
mkdir -p "$work"
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/storage" "$work/state" > "$work/storage.conf"
export CONTAINERS_STORAGE_CONF=$work/storage.conf BUILDAH_ISOLATION=chroot

make_base() { # a root file system with Python where the Python image has it
  local base=$work/base
  rm -rf "$base"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$base" "$mirror" > "$work/debootstrap.log"
  export DEBIAN_FRONTEND=noninteractive LC_ALL=C
  chroot "$base" apt-get update -qq
  chroot "$base" apt-get install -y -qq --no-install-recommends python3.11-venv > "$work/apt.log"
  rm -rf "$base"/var/lib/apt/lists/* "$base"/var/cache/apt/*.bin
  ln -s /usr/bin/python3.11 "$base/usr/local/bin/python"
}

import_base() { # this machine's certificates go along: a proxy's may be among them
  local container
  cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/ca-certificates.crt"
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ntimeout = 180\nfind-links = %s\n' "$links" > "$work/base/etc/pip.conf"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/base" / > /dev/null
  buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin "$container"
  buildah commit --quiet --rm "$container" "docker.io/library/$image" > /dev/null
}

make_context() { # what git tracks, and what must not get in
  rm -rf "$work/context"
  mkdir -p "$work/context"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/context"
  local secret
  for secret in .env .netrc .git/config .venv/key runs/x/key wandb/key conf/.env lit_maprops/__pycache__/x.pyc; do
    mkdir -p "$(dirname "$work/context/$secret")"
    echo TRIPWIRE > "$work/context/$secret"
  done
}

forget_old_layers() { # buildah's cache does not look at the files that a RUN mounts
  local locks
  locks=$(cat requirements*.lock | sha256sum)
  [ "$locks" = "$(cat "$work/locks.sha256" 2>/dev/null)" ] || buildah rmi --all --force > /dev/null 2>&1 || true
  echo "$locks" > "$work/locks.sha256"
}

build() { # build TARGET TAG [CONTEXT]
  local mounts=()
  [ -d "$links" ] && mounts=(--volume "$links:$links:ro")
  # Docker's format, since the other one has no health checks.
  buildah bud --pull-never --layers --format docker "${mounts[@]}" --build-arg "TORCH_CPU_LINKS=$links" \
    --target "$1" --tag "lit_maprops:$2" "${3:-$work/context}"
}

config() { buildah inspect --type image --format "{{.Docker.Config.$2}}" "lit_maprops:$1"; }

expect() { # expect WHAT FOUND WANTED
  [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
  echo "$1: $2"
}

inside() { # inside COMMAND...: in the cpu image as its own user, with the volume
  buildah run --volume "$work/runs:/runs" "$container" -- "$@"
}

[ -e "$work/base/usr/local/bin/python" ] || { step "make the base"; make_base; }
forget_old_layers
step "import the base as $image"
buildah inspect --type image "docker.io/library/$image" > /dev/null 2>&1 || import_base
make_context

step "what the build is given"
printf 'FROM scratch\nCOPY . /\n' > "$work/context.dockerfile"
buildah bud --quiet --layers=false --tag context --file "$work/context.dockerfile" "$work/context" > /dev/null
container=$(buildah from --pull-never context)
root=$(buildah mount "$container")
ls -A "$root"
! grep -rl TRIPWIRE "$root" || fail "the context holds what .dockerignore should keep out"
buildah rm "$container" > /dev/null

for target in cpu gpu; do
  step "build $target"
  [ $target = gpu ] && cp "$work/context/requirements-cpu.lock" "$work/context/requirements-gpu.lock"
  build $target $target > "$work/$target.log" 2>&1 || { tail -20 "$work/$target.log"; fail "see $work/$target.log"; }
  grep -E 'STEP|^healthy|^No broken' "$work/$target.log"
  expect "$target user" "$(config $target User)" "$user"
  expect "$target entrypoint" "$(config $target Entrypoint)" "[python -m lit_maprops]"
  expect "$target health check" "$(config $target Healthcheck.Test)" "[CMD python -m lit_maprops health]"
  expect "$target volumes" "$(config $target Volumes)" "map[/runs:{}]"
done

step "a change of code reuses the packages"
echo >> "$work/context/lit_maprops/__init__.py"
build cpu cpu-changed > "$work/changed.log" 2>&1 || fail "see $work/changed.log"
! grep -E 'Downloading|Collecting' "$work/changed.log" || fail "packages were installed again: see $work/changed.log"

step "run the cpu image as its user"
rm -rf "$work/runs"
install -d -o $user "$work/runs"
container=$(buildah from --pull-never lit_maprops:cpu)
buildah config --volume /runs- "$container" # else buildah mounts a volume of its own over ours, now and then
expect "uid" "$(inside id -u)" "$user"
inside python -m lit_maprops health --fit
inside python -m lit_maprops fit --config conf/matrix_game.yaml --model.num_seeds 4 --model.total_env_steps 64 --run_name one
inside python -m lit_maprops export --ckpt_path runs/one/checkpoints/last.ckpt --output runs/one/export
[ -n "$(find "$work/runs/one/export" -name '*.onnx')" ] || fail "export wrote no ONNX program"
expect "owner of the run" "$(stat -c %u "$work/runs/one/summary.json")" "$user"
# Every folder of the image, not a sample; what the user may write is the volume, the home folder and the temporary ones.
writable=$(inside sh -c 'find / \( -path /proc -o -path /sys -o -path /dev \) -prune -o -type d -writable -print 2>/dev/null; true')
odd=$(grep -vE '^/(runs|home/maprops|tmp|var/tmp|run/lock)(/|$)' <<< "$writable" || true)
expect "other folders that the user may write" "$odd" ""
grep -qx /runs <<< "$writable" || fail "the search for writable folders does not find /runs"
chown 0 "$work/runs"
! inside python -m lit_maprops health || fail "a volume that cannot be written counts as healthy"
chown $user "$work/runs"

step "SIGTERM saves, and the run continues"
inside sh -c 'python -m lit_maprops fit --config conf/matrix_game.yaml --model.num_seeds 4 \
    --model.total_env_steps 1600 --run_name stopped &
  until [ -e runs/stopped/checkpoints/last.ckpt ]; do sleep 0.2; done
  kill -TERM $!; wait $!; [ $? = 143 ]' || fail "a stopped fit did not end with 143"
inside python -m lit_maprops fit --ckpt_path runs/stopped/checkpoints/last.ckpt
grep -q '"env_steps": 1600' "$work/runs/stopped/summary.json" || fail "the continued fit is not complete"
buildah rm "$container" > /dev/null

step "done"
buildah images --format '{{.Name}}:{{.Tag}} {{.Size}}' | grep lit_maprops
