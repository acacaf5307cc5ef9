// Package probe is the traffic of the suite: servers that answer, probes that ask them, flows that run while something
// else happens, captures of what passes, and what a LAN does by itself (neighbour entries, router advertisements).
// Everything happens in a network namespace that the caller names by its path; the empty path is that of the process.
//
// A namespace is entered only to create a socket, on a thread of its own. The sockets are then used from any goroutine,
// so hundreds of servers and flows in different namespaces share one process. A socket keeps its namespace alive: close
// listeners, flows and captures of a pod before its namespace is expected to go away.
//
// It is not a load generator and changes no link, address or route. Values that cross a process border (specs, results,
// packets) are plain JSON.
//
// Its tests need root, or a user namespace with CAP_NET_ADMIN, and make all their networks themselves:
//
//	go test ./e2e/probe
package probe
