// Package conflist is the user's CNI configuration list: what the file says, what is wrong with it and where, and the
// lab network that fits it (the uplink's name, the LAN, the addresses of nodes, router and LAN host, a configuration
// for each node).
//
// A network is written in many forms: as a list, as one plugin, within a NetworkAttachmentDefinition, with keys in any
// case. All that libcni and the plugin accept is accepted, and every mistake is named at its line in the file that the
// user wrote.
//
// It is data in, data out. It makes no interface, runs no plugin and reads no file but the one that Load is given, and
// those to which a NetworkAttachmentDefinition without a configuration points.
//
// Its tests need neither root nor a network:
//
//	go test ./e2e/conflist/
package conflist
