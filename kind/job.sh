#!/bin/bash
# Runs the Job of e2e/examples/kubernetes/job.yaml on a kind cluster, with the image of a release and another conflist,
# and puts the reports of its pods together:
#
#	make release && kind/job.sh plugin/route/net.d/01-default-1.1.0.conflist _artifacts/kind/job
#
# The plugins are those on the nodes. The exit status is that of cnitest report merge.
set -euo pipefail
conflist=$(readlink -f "$1") reports=$(readlink -m "$2")
cd "$(dirname "$0")/.."
bin=${BIN:-bin} image=dist/cnitest-image.tar
[ -f $image ] || { echo "kind/job.sh: no $image; make release writes it" >&2; exit 3; }
name=$(tar -xOf $image index.json | jq -r '.manifests[0].annotations["io.containerd.image.name"]')
nodes=$(docker ps -q --filter "label=io.x-k8s.kind.cluster=${CLUSTER:-cnitest}")
for node in $nodes; do
	docker exec -i "$node" ctr --namespace=k8s.io images import --digests - <$image >/dev/null
done
# The first document of the file is a conflist like the one that the user has.
kubectl create configmap cnitest --from-file=10-mynet.conflist="$conflist" >/dev/null
sed -n '/^---$/,$p' e2e/examples/kubernetes/job.yaml | sed "s|REGISTRY/cnitest:VERSION|$name|" | kubectl apply -f - >/dev/null
ended=
for ((second = 0; second < 1200; second += 5)); do
	ended=$(kubectl get job cnitest -o json | jq -r '[.status.conditions[]? | select(.status == "True" and (.type == "Complete" or .type == "Failed")) | .type] | first // ""')
	[ -z "$ended" ] || break
	sleep 5
done
[ "$ended" = Complete ] || {
	echo "the Job is not complete${ended:+: $ended}"
	kubectl get pods -l job-name=cnitest -o wide
	kubectl logs -l job-name=cnitest --tail 15 --prefix
} >&2
rm -rf "$reports"
mkdir -p "$reports/pods"
for node in $nodes; do
	docker cp "$node:/var/tmp/cnitest/." "$reports/pods" 2>/dev/null || true
	docker exec "$node" rm -rf /var/tmp/cnitest
done
kubectl delete job,configmap cnitest --wait >/dev/null
"$bin/cnitest" report merge "$reports"/pods/* --report-dir "$reports"
