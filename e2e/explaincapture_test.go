package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/report"
)

// TestExplain_capture reads the packets of a failure back from the file beside the report.
func TestExplain_capture(t *testing.T) {
	holdLab(t)
	dir := t.TempDir()
	suite := newSuite(t, e2e.Options{
		Conflist: writeConflist(t, "", ptp, broken("drops-forwarded")),
		Select:   e2e.Selection{Names: "pod-to-pod-same-node"}, ReportDir: dir,
	})
	for _, s := range suite.Scenarios() {
		suite.RunScenarioWanting(context.Background(), s, fail("node/a dropped the request").matches)
	}
	r, err := suite.Finish()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(r.Results, func(r report.Result) bool { return r.ID == "pod-to-pod-same-node" })
	result := r.Results[at]
	var files []string
	for _, e := range result.Evidence {
		if e.File != "" {
			files = append(files, e.Title+": "+e.File)
		}
	}
	if diff := cmp.Diff([]string{"path of the packets: evidence/pod-to-pod-same-node.pcapng"}, files); diff != "" {
		t.Fatalf("files of the evidence (-want +got):\n%s", diff)
	}
	file := filepath.Join(dir, "evidence", "pod-to-pod-same-node.pcapng")
	devices, comment := readPackets(t, file)
	if diff := cmp.Diff([]string{"node/a VETH", "pod/left eth0"}, devices); diff != "" {
		t.Errorf("places and devices that saw the request (-want +got):\n%s", diff)
	}
	if !strings.HasSuffix(result.Reason, comment) || comment == "" {
		t.Errorf("got the comment %q, want the end of %q", comment, result.Reason)
	}
	for _, program := range []string{"capinfos", "tshark"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Logf("%s is not installed: not tried", program)
			continue
		}
		if output, err := exec.Command(path, map[string][]string{
			"capinfos": {file}, "tshark": {"-r", file},
		}[program]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", program, err, output)
		}
	}
}

// readPackets checks that the file's packets are in the order of time with complete headers. It returns the interfaces
// that TCP requests passed, and the comment.
func readPackets(t *testing.T, path string) (devices []string, comment string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var last gopacket.CaptureInfo
	for {
		raw, info, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Timestamp.Before(last.Timestamp) {
			t.Errorf("got a packet of %s after one of %s, want them in the order of time", info.Timestamp,
				last.Timestamp)
		}
		last = info
		device, err := reader.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		packet := gopacket.NewPacket(raw, device.LinkType, gopacket.Default)
		if tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && tcp.DstPort == 8080 && tcp.SYN {
			devices = append(devices, normal(device.Name))
		}
	}
	slices.Sort(devices)
	return slices.Compact(devices), reader.SectionInfo().Comment
}
