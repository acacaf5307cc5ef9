package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// Source returns the machine's inventory.
type Source interface {
	Inventory(ctx context.Context) (Inventory, error)
}

// EC2Options contains everything that EC2 needs.
type EC2Options struct {
	// Source is the metadata service. It shows changes of EC2 some seconds later.
	Source Source
	// Credentials is the metadata service that provides the machine's role if the environment has no credentials; nil
	// means the usual one.
	Credentials *imds.Client
	// Endpoint is the URL of the API; empty means the endpoint of the machine's region.
	Endpoint         string
	PrefixDelegation bool
	Targets          Targets
	Log              *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// EC2 keeps addresses available: it attaches ENIs, assigns addresses or prefixes to them, and returns those that are
// not needed. It detaches only ENIs that it created itself, which have a tag. It is not safe for concurrent use.
type EC2 struct {
	opts     EC2Options
	client   *ec2.Client
	limits   *Limits
	coming   map[string]coming // by ENI, address or prefix: the metadata service does not list it yet
	leaving  map[string]time.Time
	detached map[string]bool // ENIs that still have to be deleted
}

type coming struct {
	eni   string // empty for an ENI
	slots int
	since time.Time
}

// lag limits how long the metadata service may take to show a change.
const lag = time.Minute

// ownerTag marks ENIs that ipamd created. Its value is the instance for which it created them.
const ownerTag = "cnitest/ipamd-instance"

// NewEC2 returns an EC2 that has made no request yet.
func NewEC2(opts EC2Options) *EC2 {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &EC2{opts: opts, coming: map[string]coming{}, leaving: map[string]time.Time{}, detached: map[string]bool{}}
}

// Inventory returns the metadata service's answer without the addresses and ENIs that were just returned to EC2.
func (e *EC2) Inventory(ctx context.Context) (Inventory, error) {
	inv, err := e.opts.Source.Inventory(ctx)
	if err != nil {
		return inv, err
	}
	now := e.opts.Now()
	maps.DeleteFunc(e.leaving, func(_ string, since time.Time) bool { return now.Sub(since) > lag })
	gone := func(name string) bool { _, ok := e.leaving[name]; return ok }
	inv.ENIs = slices.DeleteFunc(inv.ENIs, func(eni ENI) bool { return gone(eni.ID) })
	for i := range inv.ENIs {
		eni := &inv.ENIs[i]
		eni.Secondary = slices.DeleteFunc(eni.Secondary, func(ip netip.Addr) bool { return gone(ip.String()) })
		eni.Prefixes = slices.DeleteFunc(eni.Prefixes, func(p netip.Prefix) bool { return gone(p.String()) })
	}
	e.arrived(inv, now)
	return inv, nil
}

// arrived stops waiting for addresses and ENIs that the metadata service lists by now, and for those that it does not
// list after a long time.
func (e *EC2) arrived(inv Inventory, now time.Time) {
	for _, eni := range inv.ENIs {
		delete(e.coming, eni.ID)
		for _, ip := range eni.Secondary {
			delete(e.coming, ip.String())
		}
		for _, prefix := range eni.Prefixes {
			delete(e.coming, prefix.String())
		}
	}
	maps.DeleteFunc(e.coming, func(_ string, c coming) bool { return now.Sub(c.since) > lag })
}

// Adjust takes the next step towards the targets, and reports whether it took one.
func (e *EC2) Adjust(ctx context.Context, inv Inventory, pool Pool) (bool, error) {
	if err := e.connect(ctx, inv); err != nil {
		return false, fmt.Errorf("EC2: %w", err)
	}
	e.deleteDetached(ctx)
	next := e.plan(inv, pool.ENIs()).next()
	var err error
	switch {
	case next.Assign > 0:
		err = e.assign(ctx, next.ENI, next.Assign)
	case next.Attach > 0:
		err = e.attach(ctx, inv, next.Attach)
	case next.Detach:
		return e.detach(ctx, inv, next.ENI, pool)
	case len(next.Unassign) > 0:
		return e.unassign(ctx, next.ENI, next.Unassign, pool)
	default:
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("EC2: %w", err)
	}
	return true, nil
}

// connect makes the client once the region is known, and requests the limits of the type of instance.
func (e *EC2) connect(ctx context.Context, inv Inventory) error {
	if e.client == nil {
		client, err := connect(ctx, inv.Region, e.opts.Endpoint, e.opts.Credentials)
		if err != nil {
			return err
		}
		e.client = client
	}
	if e.limits != nil {
		return nil
	}
	out, err := e.client.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{
		InstanceTypes: []types.InstanceType{types.InstanceType(inv.InstanceType)},
	})
	if err != nil {
		return fmt.Errorf("limits of %s: %w", inv.InstanceType, err)
	}
	if len(out.InstanceTypes) != 1 || out.InstanceTypes[0].NetworkInfo == nil {
		return fmt.Errorf("limits of %s: want one description with network limits, got %d", inv.InstanceType,
			len(out.InstanceTypes))
	}
	info := out.InstanceTypes[0].NetworkInfo
	limits := Limits{
		ENIs:  int(aws.ToInt32(info.MaximumNetworkInterfaces)),
		Slots: int(aws.ToInt32(info.Ipv4AddressesPerInterface)) - 1,
	}
	if len(info.NetworkCards) > 0 {
		limits.ENIs = int(aws.ToInt32(info.NetworkCards[0].MaximumNetworkInterfaces))
	}
	e.limits = &limits
	return nil
}

func (e *EC2) plan(inv Inventory, usage []datastore.ENIUsage) plan {
	p := plan{targets: e.opts.Targets, limits: *e.limits, prefixes: e.opts.PrefixDelegation}
	byID := map[string]datastore.ENIUsage{}
	for _, u := range usage {
		byID[u.ID] = u
	}
	for _, eni := range inv.ENIs {
		if eni.Unmanaged() != "" {
			if eni.Card == 0 {
				p.limits.ENIs-- // it takes the place of one for pods
			}
			continue
		}
		c := candidate{eni: eni, usage: byID[eni.ID]}
		for _, item := range e.coming {
			if item.eni == eni.ID {
				c.pending += item.slots
			}
		}
		p.enis = append(p.enis, c)
	}
	for _, item := range e.coming {
		if item.eni == "" {
			p.arriving++
			p.coming += item.slots * p.unit()
		}
	}
	return p
}
