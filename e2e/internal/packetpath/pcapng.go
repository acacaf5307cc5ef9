package packetpath

import (
	"bytes"
	"fmt"
	"runtime"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// pcapng returns a file of the packets that Wireshark opens, with an interface for each place and device, such as
// "node/a eno1", and a comment that says what they show.
func pcapng(seen []Sighting, comment string) ([]byte, error) {
	if len(seen) == 0 {
		return nil, nil
	}
	var (
		file   bytes.Buffer
		writer *pcapgo.NgWriter
		number = map[pcapgo.NgInterface]int{}
	)
	for _, s := range seen {
		device := pcapgo.NgInterface{
			Name: s.Place + " " + s.Interface, OS: runtime.GOOS, LinkType: linkType(s), TimestampResolution: 9,
		}
		index, known := number[device]
		var err error
		switch {
		case known:
		case writer == nil:
			options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
				Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "cnitest", Comment: comment,
			}}
			writer, err = pcapgo.NewNgWriterInterface(&file, device, options)
		default:
			index, err = writer.AddInterface(device)
		}
		if err != nil {
			return nil, fmt.Errorf("pcapng: %w", err)
		}
		number[device] = index
		info := gopacket.CaptureInfo{
			Timestamp: s.Time, CaptureLength: len(s.Raw), Length: max(s.Length, len(s.Raw)), InterfaceIndex: index,
		}
		if err := writer.WritePacket(info, s.Raw); err != nil {
			return nil, fmt.Errorf("pcapng: %s: %w", device.Name, err)
		}
	}
	if err := writer.Flush(); err != nil {
		return nil, fmt.Errorf("pcapng: %w", err)
	}
	return file.Bytes(), nil
}

// linkType returns the type of the packet's first header: a tunnel has no link layer header.
func linkType(s Sighting) layers.LinkType {
	if s.SourceMAC == "" {
		return layers.LinkTypeRaw
	}
	return layers.LinkTypeEthernet
}
