package fault

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sizeofNfgenmsg is the size of struct nfgenmsg. nftaTable is the attribute with the name of an object's table
// (include/uapi/linux/netfilter/nf_tables.h).
const (
	sizeofNfgenmsg = 4
	nftaTable      = 1
)

// nftName returns a message type of nf_tables as verb and object: "NEW", "TABLE".
func nftName(kind uint16) (verb, object string, ok bool) {
	names := map[uint16][2]string{
		unix.NFT_MSG_NEWTABLE: {
			"NEW",
			"TABLE",
		}, unix.NFT_MSG_GETTABLE: {"GET", "TABLE"}, unix.NFT_MSG_DELTABLE: {"DEL", "TABLE"},
		unix.NFT_MSG_NEWCHAIN: {
			"NEW",
			"CHAIN",
		}, unix.NFT_MSG_GETCHAIN: {"GET", "CHAIN"}, unix.NFT_MSG_DELCHAIN: {"DEL", "CHAIN"},
		unix.NFT_MSG_NEWRULE: {
			"NEW",
			"RULE",
		}, unix.NFT_MSG_GETRULE: {"GET", "RULE"}, unix.NFT_MSG_DELRULE: {"DEL", "RULE"},
		unix.NFT_MSG_NEWSET: {"NEW", "SET"}, unix.NFT_MSG_GETSET: {"GET", "SET"}, unix.NFT_MSG_DELSET: {"DEL", "SET"},
		unix.NFT_MSG_NEWSETELEM: {
			"NEW",
			"SETELEM",
		}, unix.NFT_MSG_GETSETELEM: {"GET", "SETELEM"}, unix.NFT_MSG_DELSETELEM: {"DEL", "SETELEM"},
		unix.NFT_MSG_GETGEN: {"GET", "GEN"},
		unix.NFT_MSG_NEWOBJ: {"NEW", "OBJ"}, unix.NFT_MSG_GETOBJ: {"GET", "OBJ"}, unix.NFT_MSG_DELOBJ: {"DEL", "OBJ"},
		unix.NFT_MSG_GETOBJ_RESET: {"GET", "OBJ"},
		unix.NFT_MSG_NEWFLOWTABLE: {
			"NEW",
			"FLOWTABLE",
		}, unix.NFT_MSG_GETFLOWTABLE: {"GET", "FLOWTABLE"}, unix.NFT_MSG_DELFLOWTABLE: {"DEL", "FLOWTABLE"},
		unix.NFT_MSG_GETRULE_RESET: {"GET", "RULE"},
		// Since Linux 6.3, not yet named by package unix.
		26: {"DESTROY", "TABLE"}, 27: {"DESTROY", "CHAIN"}, 28: {"DESTROY", "RULE"}, 29: {"DESTROY", "SET"},
		30: {"DESTROY", "SETELEM"},
		31: {"DESTROY", "OBJ"}, 32: {"DESTROY", "FLOWTABLE"}, 33: {"GET", "SETELEM"},
	}
	name, ok := names[kind]
	return name[0], name[1], ok
}

func describeNftables(kind uint16, body []byte) string {
	verb, object, ok := nftName(kind)
	if !ok {
		return fmt.Sprintf("nft message %d", kind)
	}
	if len(body) < sizeofNfgenmsg {
		return words("nft", verb+object)
	}
	// The table is the first attribute of every object. The object's own name is the third for a chain and the second
	// for others; for a rule the second is the chain.
	own := uint16(2)
	switch object {
	case "CHAIN":
		own = 3
	case "TABLE":
		own = 0
	}
	names := map[uint16]string{}
	if attributes, err := netlink.NewAttributeDecoder(body[sizeofNfgenmsg:]); err == nil {
		for attributes.Next() {
			if kind := attributes.Type(); kind == nftaTable || kind == own {
				names[kind] = attributes.String()
			}
		}
	}
	name := names[own]
	if own == 0 {
		name = ""
	}
	return words("nft", verb+object, nftFamilies[body[0]], names[nftaTable], name)
}
