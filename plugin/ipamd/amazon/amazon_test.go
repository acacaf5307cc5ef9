package amazon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	amazon "github.com/aws/amazon-vpc-cni-k8s/rpc"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Amazon's plugin attaches four pods to two ENIs. They reach each other and the VPC by their own addresses. After DEL
// nothing of them is left in ipamd or on the node.
func TestPlugin(t *testing.T) {
	l := newLab(t)
	var pods []*pod
	ips := map[string]netip.Addr{}
	for n := range 4 {
		p := l.newPod(fmt.Sprintf("pod-%d", n))
		pods, ips[p.name] = append(pods, p), l.add(p)
	}
	want := map[string]netip.Addr{
		"pod-0": netip.MustParseAddr("10.0.0.20"), "pod-1": netip.MustParseAddr("10.0.1.20"),
		"pod-2": netip.MustParseAddr("10.0.0.21"), "pod-3": netip.MustParseAddr("10.0.1.21"),
	}
	if diff := cmp.Diff(want, ips, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rules := "512: from all to 10.0.0.20 lookup 254\n512: from all to 10.0.1.20 lookup 254\n512: from all to " +
		"10.0.0.21 lookup 254\n" +
		"512: from all to 10.0.1.21 lookup 254\n1536: from 10.0.1.20 lookup 2\n1536: from 10.0.1.21 lookup 2"
	if diff := cmp.Diff(rules, l.podRules()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, p := range pods {
		for _, to := range []string{"10.0.0.1:80", "10.0.1.1:80"} {
			if got := l.seen(p.NsHandle, l.vpc, to); got != ips[p.name].String() {
				t.Errorf("%s to %s: got %q as the source, want %s", p.name, to, got, ips[p.name])
			}
		}
		next := pods[(i+1)%len(pods)]
		if got := l.seen(p.NsHandle, next.NsHandle, ips[next.name].String()+":80"); got != ips[p.name].String() {
			t.Errorf("%s to %s: got %q as the source, want %s", p.name, next.name, got, ips[p.name])
		}
	}
	// A fifth pod gets no address, and the plugin says why.
	if _, err := l.call("ADD", l.newPod("pod-4")); err == nil ||
		!strings.Contains(err.Error(), "no free address: 4 of 4 assigned") {
		t.Errorf("got %v, want that there is no address", err)
	}
	for range 2 {
		for _, p := range pods {
			if _, err := l.call("DEL", p); err != nil {
				t.Error(err)
			}
		}
	}
	if got := l.podRules(); got != "" {
		t.Errorf("got rules %s, want none", got)
	}
	if got := l.status("/v1/assignments"); got != "[]" {
		t.Errorf("got %s assigned, want none", got)
	}
}

// Package, service, messages and field numbers are the same as amazon's, for everything that this daemon implements.
func TestProtocol(t *testing.T) {
	l := newLab(t)
	conn, err := grpc.NewClient("unix://"+l.run+strings.TrimPrefix(socket, "/var/run"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	l.ok(err)
	defer conn.Close()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	l.ok(err)
	l.ok(
		stream.Send(
			&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "rpc.CNIBackend"}}))
	reply, err := stream.Recv()
	l.ok(err)
	var raw descriptorpb.FileDescriptorProto
	l.ok(proto.Unmarshal(reply.GetFileDescriptorResponse().GetFileDescriptorProto()[0], &raw))
	ours, err := protodesc.NewFile(&raw, nil)
	l.ok(err)
	theirs := amazon.File_rpc_rpc_proto
	for i := range ours.Messages().Len() {
		message := ours.Messages().Get(i)
		other := theirs.Messages().ByName(message.Name())
		if other == nil {
			t.Errorf("amazon has no message %s", message.Name())
			continue
		}
		if diff := cmp.Diff(fields(other), fields(message)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", message.FullName(), diff)
		}
	}
	if diff := cmp.Diff(methods(theirs), methods(ours)); diff != "" || ours.Messages().Len() != 5 {
		t.Errorf("%d messages, methods (-want +got):\n%s", ours.Messages().Len(), diff)
	}
}

// fields returns the fields of a message by number: name, kind and whether the field is repeated.
func fields(m protoreflect.MessageDescriptor) map[int]string {
	all := map[int]string{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		all[int(f.Number())] = fmt.Sprintf("%s %s %s", f.Name(), f.Kind(), f.Cardinality())
	}
	return all
}

func methods(file protoreflect.FileDescriptor) map[string]string {
	all := map[string]string{}
	service := file.Services().ByName("CNIBackend")
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		all[string(m.FullName())] = fmt.Sprint(m.Input().FullName(), " ", m.Output().FullName())
	}
	return all
}
