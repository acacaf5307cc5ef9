package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// api replays documented answers of the EC2 query API, and records the requests.
type api struct {
	mu      sync.Mutex
	answers map[string]string // a file in testdata by action, if not the one named after the action
	asked   []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.Form.Get("Action")
	var parameters []string
	for key := range r.Form {
		if !slices.Contains([]string{"Action", "Version", "ClientToken"}, key) {
			parameters = append(parameters, key+"="+r.Form.Get(key))
		}
	}
	slices.Sort(parameters)
	a.asked = append(a.asked, strings.Join(append([]string{action}, parameters...), " "))
	file := a.answers[action]
	if file == "" {
		file = action + ".xml"
	}
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	if strings.Contains(file, ".error.") {
		w.WriteHeader(http.StatusBadRequest)
	}
	_, _ = w.Write(raw)
}

// take returns the requests since the last call.
func (a *api) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

// lab is a machine with an EC2 and a clock.
type lab struct {
	*EC2
	t     *testing.T
	api   *api
	inv   Inventory
	store *datastore.Store
	at    time.Time
	err   error // the error of the metadata service
}

// source answers in place of the metadata service.
type source struct{ l *lab }

func (s source) Inventory(context.Context) (Inventory, error) {
	inv := s.l.inv
	inv.ENIs = nil
	for _, eni := range s.l.inv.ENIs {
		eni.Secondary, eni.Prefixes = slices.Clone(eni.Secondary), slices.Clone(eni.Prefixes)
		inv.ENIs = append(inv.ENIs, eni)
	}
	return inv, s.l.err
}

func newEC2Lab(t *testing.T, targets Targets, prefixes bool, enis ...ENI) *lab {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
	l := &lab{
		t: t, api: &api{answers: map[string]string{}}, store: datastore.New(datastore.Options{}), at: time.Unix(1e9, 0),
	}
	server := httptest.NewServer(l.api)
	t.Cleanup(server.Close)
	l.inv = Inventory{InstanceID: "i-1", InstanceType: "t3.small", Region: "eu-central-1", ENIs: enis}
	l.EC2 = NewEC2(EC2Options{
		Source: source{l}, Endpoint: server.URL, Targets: targets, PrefixDelegation: prefixes,
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time {
			return l.at
		},
	})
	return l
}

func primary(secondary ...string) ENI {
	return ENI{ID: "eni-0", SubnetID: "subnet-0", SecurityGroups: []string{"sg-1", "sg-2"}, Secondary: parse(secondary)}
}

func parse(all []string) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range all {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

// round does what the daemon does every minute, and compares the requests to EC2, except for those about limits, with
// want.
func (l *lab) round(want ...string) (bool, error) {
	l.t.Helper()
	inv, err := l.EC2.Inventory(l.t.Context())
	if err != nil {
		return false, err
	}
	var enis []datastore.ENI
	for _, eni := range inv.ENIs {
		enis = append(enis, datastore.ENI{
			ID: eni.ID, Device: eni.Device, Addresses: eni.Secondary, Prefixes: eni.Prefixes,
		})
	}
	l.store.Sync(enis)
	adjusted, err := l.Adjust(l.t.Context(), inv, l.store)
	asked := slices.DeleteFunc(l.api.take(), func(s string) bool {
		return strings.HasPrefix(s, "DescribeInstanceTypes ")
	})
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(asked, "\n")); diff != "" {
		l.t.Errorf("(-want +got):\n%s", diff)
	}
	return adjusted, err
}

func (l *lab) adjusted(want bool, asked ...string) {
	l.t.Helper()
	got, err := l.round(asked...)
	if got != want || err != nil {
		l.t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestEC2_assign(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 3}, false, primary("10.0.0.20"))
	l.adjusted(true, "AssignPrivateIpAddresses NetworkInterfaceId=eni-0 SecondaryPrivateIpAddressCount=2")
	l.adjusted(false) // the metadata service does not list them yet
	l.inv.ENIs[0] = primary("10.0.0.20", "10.0.0.21", "10.0.0.22")
	l.adjusted(false)
	if got := l.store.Stats().Free; got != 3 {
		t.Errorf("got %d free, want 3", got)
	}
}

// Addresses that the metadata service does not list for a long time are requested again.
func TestEC2_assign_lost(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 3}, false, primary("10.0.0.20"))
	const ask = "AssignPrivateIpAddresses NetworkInterfaceId=eni-0 SecondaryPrivateIpAddressCount=2"
	l.adjusted(true, ask)
	l.at = l.at.Add(lag)
	l.adjusted(false)
	l.at = l.at.Add(time.Second)
	l.adjusted(true, ask)
}

func TestEC2_assign_prefixes(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 17}, true, primary())
	l.adjusted(true, "AssignPrivateIpAddresses Ipv4PrefixCount=2 NetworkInterfaceId=eni-0")
}

const (
	create = "CreateNetworkInterface Description=pods of i-1 SecondaryPrivateIpAddressCount=1 SecurityGroupId.1=sg-1 " +
		"SecurityGroupId.2=sg-2 SubnetId=subnet-0 " +
		"TagSpecification.1.ResourceType=network-interface TagSpecification.1.Tag.1.Key=cnitest/ipamd-instance " +
		"TagSpecification.1.Tag.1.Value=i-1"
	attach = "AttachNetworkInterface DeviceIndex=1 InstanceId=i-1 NetworkInterfaceId=eni-new"
)

func TestEC2_attach(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 4}, false, primary("10.0.0.20", "10.0.0.21", "10.0.0.22"),
		ENI{ID: "eni-2", Device: 2, Card: 1})
	l.adjusted(true, create, attach,
		"ModifyNetworkInterfaceAttribute Attachment.AttachmentId=eni-attach-new Attachment.DeleteOnTermination=true "+
			"NetworkInterfaceId=eni-new")
	l.adjusted(false)
}

// An ENI that cannot be attached is deleted. Deleting is repeated until it succeeds.
func TestEC2_attach_error(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 4}, false, primary("10.0.0.20", "10.0.0.21", "10.0.0.22"))
	l.api.answers["AttachNetworkInterface"] = "AttachNetworkInterface.error.xml"
	l.api.answers["DeleteNetworkInterface"] = "DeleteNetworkInterface.error.xml"
	const remove = "DeleteNetworkInterface NetworkInterfaceId=eni-new"
	for _, want := range [][]string{{create, attach}, {remove, create, attach}} {
		adjusted, err := l.round(want...)
		const text = "EC2: attach eni-new: operation error EC2: AttachNetworkInterface, https response error " +
			"StatusCode: 400, RequestID: r, " +
			"api error AttachmentLimitExceeded: Interface count 4 exceeds the limit for t3.small"
		if adjusted || fmt.Sprint(err) != text {
			t.Errorf("got  %v, %v\nwant %s", adjusted, err, text)
		}
	}
	delete(l.api.answers, "DeleteNetworkInterface")
	l.opts.Targets = Targets{WarmIP: 3}
	l.adjusted(false, remove)
	l.adjusted(false)
}

func TestEC2_unassign(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 1}, false, primary("10.0.0.20", "10.0.0.21", "10.0.0.22"))
	l.adjusted(true, "UnassignPrivateIpAddresses NetworkInterfaceId=eni-0 PrivateIpAddress.1=10.0.0.22 "+
		"PrivateIpAddress.2=10.0.0.21")
	// The metadata service still lists them; pods do not get them.
	l.adjusted(false)
	if got := l.store.Stats().Total; got != 1 {
		t.Errorf("got %d addresses, want 1", got)
	}
	// If EC2 did not do it, they are available again after a while.
	l.at = l.at.Add(lag + time.Second)
	l.opts.Targets = Targets{WarmIP: 3}
	l.adjusted(false)
	if got := l.store.Stats().Total; got != 3 {
		t.Errorf("got %d addresses, want 3", got)
	}
}

// An address that a pod gets between plan and request is not returned.
func TestEC2_unassign_race(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 1}, false, primary("10.0.0.20", "10.0.0.21"))
	l.adjusted(true, "UnassignPrivateIpAddresses NetworkInterfaceId=eni-0 PrivateIpAddress.1=10.0.0.21")
	l.at = l.at.Add(lag + time.Second)
	inv, err := l.EC2.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.store.Sync([]datastore.ENI{{ID: "eni-0", Addresses: inv.ENIs[0].Secondary}})
	adjusted, err := l.Adjust(t.Context(), inv, busy{l.store})
	if asked := l.api.take(); adjusted || err != nil || len(asked) != 0 {
		t.Errorf("got %v, %v and %q, want nothing", adjusted, err, asked)
	}
}

// busy is a pool whose addresses are all taken after the first look.
type busy struct{ *datastore.Store }

func (busy) Withdraw([]netip.Addr) []netip.Addr { return nil }

func TestEC2_detach(t *testing.T) {
	second := ENI{ID: "eni-1", Device: 1, Secondary: parse([]string{"10.0.0.31"})}
	l := newEC2Lab(t, Targets{WarmIP: 1}, false, primary("10.0.0.20"), second)
	const describe = "DescribeNetworkInterfaces NetworkInterfaceId.1=eni-1"
	l.api.answers["DescribeNetworkInterfaces"] = "DescribeNetworkInterfaces.foreign.xml"
	l.adjusted(false, describe) // somebody else created it
	delete(l.api.answers, "DescribeNetworkInterfaces")
	l.adjusted(true, describe, "DetachNetworkInterface AttachmentId=eni-attach-1")
	l.adjusted(false, "DeleteNetworkInterface NetworkInterfaceId=eni-1")
	if got := l.store.Stats().Total; got != 1 {
		t.Errorf("got %d addresses, want 1", got)
	}
}

func TestEC2_errors(t *testing.T) {
	l := newEC2Lab(t, Targets{WarmIP: 1}, false, primary())
	l.err = errors.New("metadata: away")
	if _, err := l.round(); !errors.Is(err, l.err) {
		t.Errorf("got %v, want %v", err, l.err)
	}
	l.err = nil
	l.api.answers["DescribeInstanceTypes"] = "AttachNetworkInterface.xml"
	if _, err := l.round(); fmt.Sprint(err) != "EC2: limits of t3.small: want one description with network limits, "+
		"got 0" {
		t.Errorf("got %v", err)
	}
}
