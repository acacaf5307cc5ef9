// Package metadata reads from the instance metadata service the ENIs of this machine and their addresses.
//
// It requests a token first (IMDSv2). If the service has none it works without, unless tokens are required. It keeps
// nothing between two calls except the token.
//
// Tests: go test ./plugin/ipamd/internal/metadata
package metadata

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
)

// Options say where the service is and whether it must require tokens.
type Options struct {
	// Endpoint is the service's URL; empty means http://169.254.169.254.
	Endpoint string
	// RequireToken refuses a service that does not issue tokens (IMDSv1).
	RequireToken bool
}

// Client queries the metadata service. It is safe for concurrent use.
type Client struct {
	imds *imds.Client
}

// New returns a client. It makes no request yet.
func New(opts Options) *Client {
	fallback := aws.TrueTernary
	if opts.RequireToken {
		fallback = aws.FalseTernary
	}
	// The service is on the link: an Internet proxy must not be used for it.
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })
	return &Client{imds: imds.New(imds.Options{
		Endpoint: cmp.Or(opts.Endpoint, "http://169.254.169.254"), EnableFallback: fallback, HTTPClient: transport,
		ClientEnableState: imds.ClientEnabled,
	})}
}

// IMDS returns the underlying client, for credentials.
func (c *Client) IMDS() *imds.Client { return c.imds }

// Inventory reads the whole inventory. Requests that fail are tried three times. While an ENI is being attached, the
// service may list it without describing it. That is an error: call again later.
func (c *Client) Inventory(ctx context.Context) (cloud.Inventory, error) {
	inv, err := c.inventory(ctx)
	if err != nil {
		return cloud.Inventory{}, fmt.Errorf("metadata: %w", err)
	}
	return inv, nil
}

func (c *Client) inventory(ctx context.Context) (cloud.Inventory, error) {
	r := &reader{ctx: ctx, client: c.imds}
	inv := cloud.Inventory{
		InstanceID:   r.text("instance-id"),
		InstanceType: r.optional("instance-type"),
		Region:       r.optional("placement/region"),
	}
	primary := strings.ToLower(r.text("mac"))
	for _, name := range strings.Fields(r.text("network/interfaces/macs/")) {
		eni, vpc := r.eni(strings.Trim(name, "/"))
		if eni.MAC == primary {
			inv.VPC = vpc
			if r.err == nil && eni.Device != 0 {
				return inv, fmt.Errorf("primary ENI %s: want device number 0, got %d", eni.ID, eni.Device)
			}
		}
		inv.ENIs = append(inv.ENIs, eni)
	}
	if r.err != nil {
		return inv, r.err
	}
	slices.SortFunc(inv.ENIs, func(a, b cloud.ENI) int { return cmp.Or(a.Card-b.Card, a.Device-b.Device) })
	if len(inv.ENIs) == 0 || !inv.ENIs[0].Primary() || inv.ENIs[0].MAC != primary {
		return inv, fmt.Errorf("want an ENI with the primary MAC %s, got none", primary)
	}
	return inv, nil
}

// eni reads one ENI and the address ranges of its VPC.
func (r *reader) eni(mac string) (cloud.ENI, []netip.Prefix) {
	base := "network/interfaces/macs/" + mac + "/"
	eni := cloud.ENI{
		MAC:            strings.ToLower(mac),
		ID:             r.text(base + "interface-id"),
		Device:         r.number(r.text(base+"device-number"), base+"device-number"),
		Card:           r.number(cmp.Or(r.optional(base+"network-card"), "0"), base+"network-card"),
		SubnetID:       r.optional(base + "subnet-id"),
		SecurityGroups: nilIfEmpty(strings.Fields(r.optional(base + "security-group-ids"))),
	}
	if subnets := list(r, base+"subnet-ipv4-cidr-block", netip.ParsePrefix); len(subnets) > 0 {
		eni.Subnet = subnets[0]
	}
	// The first address is the ENI's own; the service lists it first.
	if own := list(r, base+"local-ipv4s", netip.ParseAddr); len(own) > 0 {
		eni.Address, eni.Secondary = own[0], nilIfEmpty(own[1:])
	}
	eni.Secondary = append(eni.Secondary, list(r, base+"ipv6s", netip.ParseAddr)...)
	eni.Prefixes = append(list(r, base+"ipv4-prefix", netip.ParsePrefix), list(r, base+"ipv6-prefix",
		netip.ParsePrefix)...)
	vpc := list(r, base+"vpc-ipv4-cidr-blocks", netip.ParsePrefix)
	return eni, append(vpc, list(r, base+"vpc-ipv6-cidr-blocks", netip.ParsePrefix)...)
}

// reader reads values until the first error, which it keeps.
type reader struct {
	ctx    context.Context
	client *imds.Client
	err    error
}

// text reads a value that must exist.
func (r *reader) text(path string) string {
	text, found := r.get(path)
	if r.err == nil && !found {
		r.err = fmt.Errorf("%s: not found", path)
	}
	return text
}

// optional reads a value that may be missing: the service answers 404 for an empty list.
func (r *reader) optional(path string) string {
	text, _ := r.get(path)
	return text
}

func (r *reader) get(path string) (string, bool) {
	if r.err != nil {
		return "", false
	}
	out, err := r.client.GetMetadata(r.ctx, &imds.GetMetadataInput{Path: path})
	if response := (*smithyhttp.ResponseError)(nil); errors.As(err, &response) &&
		response.HTTPStatusCode() == http.StatusNotFound {
		return "", false
	}
	if err != nil {
		r.err = fmt.Errorf("%s: %w", path, err)
		return "", false
	}
	defer out.Content.Close()
	raw, err := io.ReadAll(out.Content)
	if err != nil {
		r.err = fmt.Errorf("%s: %w", path, err)
		return "", false
	}
	return strings.TrimSpace(string(raw)), true
}

func (r *reader) number(text, path string) int {
	if r.err != nil {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		r.err = fmt.Errorf("%s: want a number, got %q", path, text)
	}
	return n
}

// list reads a list that may be empty.
func list[T any](r *reader, path string, parse func(string) (T, error)) []T {
	var all []T
	for _, field := range strings.Fields(r.optional(path)) {
		element, err := parse(field)
		if err != nil {
			r.err = fmt.Errorf("%s: %w", path, err)
			return nil
		}
		all = append(all, element)
	}
	return all
}

func nilIfEmpty[T any](all []T) []T {
	if len(all) == 0 {
		return nil
	}
	return slices.Clone(all)
}
