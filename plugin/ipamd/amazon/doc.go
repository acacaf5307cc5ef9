// Package amazon tests that the unchanged plugin of amazon-vpc-cni-k8s attaches and detaches pods with this
// repository's ipamd. It is a separate module, so that no other package depends on amazon's modules.
//
// Tests: go test ./... in this folder (as root). The first run builds amazon's plugin, which takes minutes.
package amazon
