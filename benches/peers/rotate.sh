#!/usr/bin/env bash
# Rotates snapshots: for each server makes one, waits until it is completed, deletes the oldest beyond
# KEEP. From cron, with API and TOKEN in the environment:
#
#   0 3 * * *  flock -n /run/lock/rotate rotate.sh 101 102 103
#
# Needs curl and jq.
set -euo pipefail

: "${API:?as https://admin.vps.org/api/v1}" "${TOKEN:?}"
export KEEP=${KEEP:-3} CAP=${CAP:-5} PREFIX=${PREFIX:-nightly} AT_ONCE=${AT_ONCE:-64}
# Seconds between two looks, and how many looks before it gives up.
export POLL=${POLL:-15} LOOKS=${LOOKS:-240}

call() {
  curl --silent --show-error --fail --max-time 30 --header "Authorization: Bearer $TOKEN" "$@"
}

# The snapshots of a server.
list() {
  call --retry 3 "$API/snapshots/?server_id=$1" | jq '.results'
}

rotate() {
  set -euo pipefail
  local server=$1 rows name id state look=0
  rows=$(list "$server")
  if [ "$(jq length <<<"$rows")" -ge "$CAP" ]; then
    echo "server $server has no free slot" >&2
    return 1
  fi

  name=$PREFIX-$(date -u +%Y%m%dT%H%M%SZ)
  id=$(call --json "{\"server_id\": $server, \"name\": \"$name\"}" "$API/snapshots/" | jq .id)

  state=in_progress
  while [ "$state" != completed ]; do
    look=$((look + 1))
    if [ "$state" = failed ] || [ "$look" -gt "$LOOKS" ]; then
      echo "server $server: $name is $state" >&2
      return 1
    fi
    sleep "$POLL"
    rows=$(list "$server")
    state=$(jq -r --argjson id "$id" '.[] | select(.id == $id).status' <<<"$rows")
  done

  jq --arg prefix "$PREFIX-" --argjson keep "$KEEP" \
    'map(select((.name | startswith($prefix)) and .status == "completed"))
     | sort_by(.created_at) | .[:-$keep][].id' <<<"$rows" |
    while read -r id; do call --retry 3 --request DELETE "$API/snapshots/$id/"; done
}

export API TOKEN
export -f call list rotate
printf '%s\n' "$@" | xargs -P "$AT_ONCE" -I{} bash -c 'rotate {}'
