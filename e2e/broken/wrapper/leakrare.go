package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The following leaks are of kinds that few plugins make at all.

// addAction makes an action of traffic control that belongs to no filter.
func addAction(_ *call, number int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	action := netlink.NewMirredAction(lo.Attrs().Index)
	action.Attrs().Index = number + 1
	request := nl.NewNetlinkRequest(unix.RTM_NEWACTION, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(header{0, 0, 0, 0})
	const table = 1 // TCA_ACT_TAB
	list := nl.NewRtAttr(table, nil)
	if err := netlink.EncodeActions(list, []netlink.Action{action}); err != nil {
		return err
	}
	request.AddData(list)
	_, err = request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// trackInZone tracks a connection in a separate zone.
func trackInZone(_ *call, number int) error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	from, to := numbered(number).IP.To4(), numbered(number+1).IP.To4()
	tuple := func(kind int, from, to []byte, source, target uint16) *nl.RtAttr {
		t := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
		ip := t.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
		ip.AddRtAttr(nl.CTA_IP_V4_SRC, from)
		ip.AddRtAttr(nl.CTA_IP_V4_DST, to)
		protocol := t.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		protocol.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
		protocol.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(source))
		protocol.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(target))
		return t
	}
	request.AddData(tuple(nl.CTA_TUPLE_ORIG, from, to, 5000, 5001))
	request.AddData(tuple(nl.CTA_TUPLE_REPLY, to, from, 5001, 5000))
	request.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(3600)))
	request.AddData(nl.NewRtAttr(nl.CTA_ZONE, nl.BEUint16Attr(uint16(number+1))))
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// pin makes a directory in a BPF file system, as programs do that pin maps for a pod.
func pin(_ *call, number int) error {
	const dir = "/mnt/bpf"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		if err := unix.Mount("leak", dir, "bpf", 0, ""); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(dir, fmt.Sprint("leak", number)), 0o755)
}

// addNamespace makes a namespace in the directory in which runtimes keep the namespaces of pods.
func addNamespace(name string) error {
	path := filepath.Join("/var/run/netns", name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_ = file.Close()
	return unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, "")
}
