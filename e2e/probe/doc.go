// Package probe makes the traffic of the suite: servers that answer, probes that ask them, flows that run during other
// events, captures of packets, and messages that occur on a LAN without pods (neighbour entries, router
// advertisements). Everything happens in a network namespace that the caller names by its path; the empty path is that
// of the process.
//
// A namespace is entered only to create a socket, on a separate thread. The sockets are then used from any goroutine,
// so hundreds of servers and flows in different namespaces share one process. A socket keeps its namespace alive: close
// listeners, flows and captures of a pod before its namespace is expected to vanish.
//
// It is not a load generator, and changes no link, address or route. Values that cross a process border (specs,
// results, packets) are plain JSON.
//
// Its tests need root, or a user namespace with CAP_NET_ADMIN, and make all their networks themselves:
//
//	go test ./e2e/probe
package probe
