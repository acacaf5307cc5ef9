// Package rpc is the protocol between ipamd and the plugins that ask it for addresses: the service CNIBackend as
// amazon-vpc-cni-k8s has it (rpc.proto), and a service of this repository for what that lacks (ipamd.proto).
//
// It is generated, but for this file. It does not dial: a client brings its own connection, without transport
// credentials, to ipamd's unix socket.
//
// Tests: go test ./plugin/ipamd/internal/server
package rpc

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative rpc.proto ipamd.proto
