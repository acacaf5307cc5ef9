// Package conflist reads the user's CNI configuration list, finds its mistakes and their places, and derives the lab
// network that fits it: the uplink's name, the LAN, the addresses of nodes, router and LAN host, and a configuration
// for each node.
//
// A network can be written in many forms: as a list, as a single plugin, in a NetworkAttachmentDefinition, with keys in
// any case. The package accepts everything that libcni and the plugin accept, and reports every mistake with its line
// in the user's file.
//
// It makes no interface and runs no plugin. It reads only the file that Load is given, and files to which a
// NetworkAttachmentDefinition without a configuration refers.
//
// Its tests need neither root nor a network:
//
//	go test ./e2e/conflist/
package conflist
