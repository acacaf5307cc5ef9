// Package rpc is the protocol between ipamd and the plugins that request addresses from it: the service CNIBackend of
// amazon-vpc-cni-k8s (rpc.proto), and a service of this repository for calls that it lacks (ipamd.proto).
//
// Everything except for this file is generated. The package does not dial: a client brings a connection to ipamd's unix
// socket, without transport credentials.
//
// Tests: go test ./plugin/ipamd/internal/server
package rpc

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative rpc.proto ipamd.proto
