package cloud

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// left returns the ENIs of a described machine that are left alone, and why.
func (l *lab) left(d *Described) (map[string]string, error) {
	inv, err := d.Inventory(l.t.Context())
	left := map[string]string{}
	for _, eni := range inv.ENIs {
		if reason := eni.Unmanaged(); reason != "" {
			left[eni.ID] = reason
		}
	}
	return left, err
}

func TestDescribed(t *testing.T) {
	const failing = "DescribeNetworkInterfaces.error.xml"
	second, third := ENI{ID: "eni-1", Device: 1, Secondary: parse([]string{"10.0.0.31"})}, ENI{
		ID: "eni-2", Device: 2, Secondary: parse([]string{"10.0.0.41"}),
	}
	l := newEC2Lab(t, Targets{}, false, primary("10.0.0.20"), second, third)
	d := NewDescribed(DescribedOptions{
		Source: source{l}, Endpoint: l.opts.Endpoint, Log: slog.New(slog.DiscardHandler),
	})
	// Before EC2 has answered nobody knows which ENIs are for pods.
	l.api.answers["DescribeNetworkInterfaces"] = failing
	if _, err := l.left(d); err == nil || !strings.Contains(err.Error(), "EC2: tags and type of eni-0: ") ||
		!strings.Contains(err.Error(), "UnauthorizedOperation") {
		t.Errorf("got %v, want that EC2 refused", err)
	}
	want := map[string]string{
		"eni-1": "the ENI is tagged " + NoManageTag,
		"eni-2": "the ENI is a trunk: its packets are those of branch ENIs",
	}
	l.api.take()
	for _, answer := range []string{"DescribeNetworkInterfaces.machine.xml", failing} { // the last answer counts
		l.api.answers["DescribeNetworkInterfaces"] = answer
		got, err := l.left(d)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", answer, err, diff)
		}
	}
	if got := l.api.take()[0]; got != "DescribeNetworkInterfaces Filter.1.Name=attachment.instance-id "+
		"Filter.1.Value.1=i-1" {
		t.Errorf("got %s, want the ENIs of the machine", got)
	}
	l.api.answers["DescribeNetworkInterfaces"] = "DescribeNetworkInterfaces.machine.xml"
	l.inv.ENIs = append(l.inv.ENIs, ENI{ID: "eni-3", Device: 3})
	if _, err := l.left(d); err == nil || err.Error() != "EC2: tags and type of eni-3: it is not described yet" {
		t.Errorf("got %v, want that EC2 does not describe eni-3", err)
	}
	l.err = errors.New("metadata: away")
	if _, err := l.left(d); !errors.Is(err, l.err) {
		t.Errorf("got %v, want %v", err, l.err)
	}
}

// ENIs that are left alone get no addresses, and take the place of others.
func TestEC2_unmanaged(t *testing.T) {
	trunk := ENI{ID: "eni-1", Device: 1, Type: typeTrunk, Address: parse([]string{"10.0.0.30"})[0]}
	l := newEC2Lab(t, Targets{WarmIP: 9}, false, primary("10.0.0.20", "10.0.0.21", "10.0.0.22"), trunk)
	l.adjusted(true, strings.Replace(create, "Count=1", "Count=3", 1), strings.Replace(attach, "Index=1", "Index=2", 1),
		"ModifyNetworkInterfaceAttribute Attachment.AttachmentId=eni-attach-new Attachment.DeleteOnTermination=true "+
			"NetworkInterfaceId=eni-new")
	l.inv.ENIs = append(l.inv.ENIs, ENI{
		ID: "eni-new", Device: 2, Secondary: parse([]string{"10.0.0.40", "10.0.0.41", "10.0.0.42"}),
	})
	l.adjusted(false) // a t3.small has three ENIs
}
