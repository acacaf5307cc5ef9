// Package amazon shows that the plugin of amazon-vpc-cni-k8s, as it is, attaches and detaches pods with this
// repository's ipamd. It is a module of its own, so that amazon's modules are nobody else's.
//
// Tests: go test ./... in this folder (as root). The first time builds amazon's plugin, which takes minutes.
package amazon
