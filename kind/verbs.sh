#!/bin/bash
# Prints which verbs the container runtimes of a kind cluster called, and fails if those are not the ones in README.md's
# table of what each backend calls. The calls are the records of the plugin at the end of the chain of
# kind/install/verbs, which kind/e2e.sh installs.
set -euo pipefail
for node in $(docker ps -q --filter "label=io.x-k8s.kind.cluster=${CLUSTER:-cnitest}"); do
	docker exec "$node" sh -c "cat /run/cnitest-verbs/*.json" | jq -c --arg node "$node" '. + {node: $node}'
done | jq -rs '
	def median: sort | .[length / 2 | floor];
	def var($name): .env | map(select(startswith($name + "=")))[0] // "" | sub("^[^=]*="; "");
	def calls($verb): map(select(.verb == $verb));
	map(.input = (.stdin | fromjson) | .at = (.start | sub("\\.[0-9]+"; "") | fromdateiso8601)) as $all
	| ($all | group_by(.node) | map(calls("STATUS") | map(.at) | sort | [.[1:], .[:-1]] | transpose | map(.[0] - .[1])) | add) as $between
	| ($all | calls("DEL")) as $del
	| "calls by " + ($all | map(.input.cniVersion) | unique | join(", ")) + " in " + ($all | map(.at) | max - min | tostring) + " s:",
	"ADD     \($all | calls("ADD") | length)",
	"DEL     \($del | length), of which \($del | map(select(.input | has("prevResult"))) | length) with prevResult, \($del | map(select(var("CNI_NETNS") == "")) | length) without CNI_NETNS",
	"STATUS  \($all | calls("STATUS") | length), in the median every \($between | median) s",
	"CHECK   \($all | calls("CHECK") | length)",
	"GC      \($all | calls("GC") | length)",
	if ($all | map(.verb) | unique) == ["ADD", "DEL", "STATUS"] then empty else "want ADD, DEL and STATUS alone\n" | halt_error end'
