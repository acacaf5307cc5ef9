package cloud

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// connect returns a client of the EC2 API of a region, or of an endpoint if one is given. If the environment has no
// credentials, the client asks for those of the machine's role, of the given service or, if that is nil, the usual one.
func connect(ctx context.Context, region, endpoint string, credentials *imds.Client) (*ec2.Client, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) {
			if credentials != nil {
				o.Client = credentials
			}
		}))
	if err != nil {
		return nil, err
	}
	return ec2.NewFromConfig(cfg, func(o *ec2.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	}), nil
}

// DescribedOptions are what a Described needs.
type DescribedOptions struct {
	// Source is the metadata service, which tells neither tags nor types of ENIs.
	Source Source
	// Credentials and Endpoint are those of EC2Options.
	Credentials *imds.Client
	Endpoint    string
	Log         *slog.Logger
}

// Described is a source that asks EC2, too, for the tags and the types of ENIs (ec2:DescribeNetworkInterfaces). It is
// not safe for concurrent use.
type Described struct {
	opts   DescribedOptions
	client *ec2.Client
	known  map[string]description // by ENI, of the last answer
}

type description struct {
	kind string
	tags map[string]string
}

// NewDescribed returns a source that has asked nothing yet.
func NewDescribed(opts DescribedOptions) *Described { return &Described{opts: opts} }

// Inventory returns what the metadata service says, with tags and types. If EC2 does not answer, those of its last
// answer count; an ENI that EC2 has never described is an error: it may be one to leave alone.
func (d *Described) Inventory(ctx context.Context) (Inventory, error) {
	inv, err := d.opts.Source.Inventory(ctx)
	if err != nil {
		return inv, err
	}
	failure := d.describe(ctx, inv)
	for i := range inv.ENIs {
		eni := &inv.ENIs[i]
		found, ok := d.known[eni.ID]
		switch {
		case !ok && failure != nil:
			return inv, fmt.Errorf("EC2: tags and type of %s: %w", eni.ID, failure)
		case !ok:
			return inv, fmt.Errorf("EC2: tags and type of %s: it is not described yet", eni.ID)
		}
		eni.Type, eni.Tags = found.kind, found.tags
	}
	if failure != nil {
		d.opts.Log.Warn("EC2: ENIs not described: tags and types are those of the last answer", "error", failure)
	}
	return inv, nil
}

// describe asks for all ENIs of the machine.
func (d *Described) describe(ctx context.Context, inv Inventory) error {
	if d.client == nil {
		client, err := connect(ctx, inv.Region, d.opts.Endpoint, d.opts.Credentials)
		if err != nil {
			return err
		}
		d.client = client
	}
	known := map[string]description{}
	pages := ec2.NewDescribeNetworkInterfacesPaginator(d.client, &ec2.DescribeNetworkInterfacesInput{
		Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{inv.InstanceID}}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, found := range page.NetworkInterfaces {
			tags := map[string]string{}
			for _, tag := range found.TagSet {
				tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
			}
			known[aws.ToString(found.NetworkInterfaceId)] = description{string(found.InterfaceType), tags}
		}
	}
	d.known = known
	return nil
}
