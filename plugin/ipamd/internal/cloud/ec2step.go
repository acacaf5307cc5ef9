package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
)

// assign requests slots for an ENI.
func (e *EC2) assign(ctx context.Context, id string, slots int) error {
	in := &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &id}
	if e.opts.PrefixDelegation {
		in.Ipv4PrefixCount = aws.Int32(int32(slots))
	} else {
		in.SecondaryPrivateIpAddressCount = aws.Int32(int32(slots))
	}
	out, err := e.client.AssignPrivateIpAddresses(ctx, in)
	if err != nil {
		return fmt.Errorf("assign %d to %s: %w", slots, id, err)
	}
	for _, a := range out.AssignedPrivateIpAddresses {
		e.coming[aws.ToString(a.PrivateIpAddress)] = coming{id, 1, e.opts.Now()}
	}
	for _, p := range out.AssignedIpv4Prefixes {
		e.coming[aws.ToString(p.Ipv4Prefix)] = coming{id, 1, e.opts.Now()}
	}
	e.opts.Log.Info("EC2: assigned", "eni", id, "slots", slots)
	return nil
}

// attach creates an ENI like the primary one and attaches it. EC2 deletes it together with the instance.
func (e *EC2) attach(ctx context.Context, inv Inventory, slots int) error {
	primary := inv.ENIs[0]
	in := &ec2.CreateNetworkInterfaceInput{
		SubnetId: &primary.SubnetID, Groups: primary.SecurityGroups, Description: aws.String("pods of " +
			inv.InstanceID),
		TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeNetworkInterface, Tags: []types.Tag{
				{Key: aws.String(ownerTag), Value: &inv.InstanceID},
			},
		}},
	}
	if e.opts.PrefixDelegation {
		in.Ipv4PrefixCount = aws.Int32(int32(slots))
	} else {
		in.SecondaryPrivateIpAddressCount = aws.Int32(int32(slots))
	}
	created, err := e.client.CreateNetworkInterface(ctx, in)
	if err != nil {
		return fmt.Errorf("create ENI: %w", err)
	}
	if created.NetworkInterface == nil {
		return errors.New("create ENI: the answer has none")
	}
	id := aws.ToString(created.NetworkInterface.NetworkInterfaceId)
	attached, err := e.client.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{
		InstanceId: &inv.InstanceID, NetworkInterfaceId: &id, DeviceIndex: aws.Int32(freeDevice(inv)),
	})
	if err != nil {
		e.detached[id] = true
		return fmt.Errorf("attach %s: %w", id, err)
	}
	e.coming[id] = coming{"", slots, e.opts.Now()}
	e.opts.Log.Info("EC2: attached", "eni", id, "slots", slots)
	_, err = e.client.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: &id,
		Attachment: &types.NetworkInterfaceAttachmentChanges{
			AttachmentId: attached.AttachmentId, DeleteOnTermination: aws.Bool(true),
		},
	})
	if err != nil {
		return fmt.Errorf("%s: delete with the instance: %w", id, err)
	}
	return nil
}

func freeDevice(inv Inventory) int32 {
	for device := 1; ; device++ {
		if !slices.ContainsFunc(inv.ENIs, func(e ENI) bool { return e.Card == 0 && e.Device == device }) {
			return int32(device)
		}
	}
}

// unassign returns slots to EC2. Pods cannot have their addresses from then on, even if the answer is lost.
func (e *EC2) unassign(ctx context.Context, id string, slots []slot, pool Pool) (bool, error) {
	in := &ec2.UnassignPrivateIpAddressesInput{NetworkInterfaceId: &id}
	for _, s := range slots {
		name, addrs := s.Addr.String(), []netip.Addr{s.Addr}
		if s.Prefix.IsValid() {
			name, addrs = s.Prefix.String(), addresses(s.Prefix)
		}
		if len(pool.Withdraw(addrs)) < len(addrs) {
			continue // a pod has taken one of its addresses; the next Sync restores the others
		}
		if s.Prefix.IsValid() {
			in.Ipv4Prefixes = append(in.Ipv4Prefixes, name)
		} else {
			in.PrivateIpAddresses = append(in.PrivateIpAddresses, name)
		}
		e.leaving[name] = e.opts.Now()
	}
	if len(in.PrivateIpAddresses)+len(in.Ipv4Prefixes) == 0 {
		return false, nil
	}
	if _, err := e.client.UnassignPrivateIpAddresses(ctx, in); err != nil {
		return false, fmt.Errorf("EC2: unassign from %s: %w", id, err)
	}
	e.opts.Log.Info("EC2: unassigned", "eni", id, "addresses", in.PrivateIpAddresses, "prefixes", in.Ipv4Prefixes)
	return true, nil
}

// detach detaches an ENI, if ipamd created it.
func (e *EC2) detach(ctx context.Context, inv Inventory, id string, pool Pool) (bool, error) {
	out, err := e.client.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{
		NetworkInterfaceIds: []string{id},
	})
	if err != nil {
		return false, fmt.Errorf("EC2: describe %s: %w", id, err)
	}
	if len(out.NetworkInterfaces) != 1 || out.NetworkInterfaces[0].Attachment == nil {
		return false, fmt.Errorf("EC2: describe %s: want one attached ENI, got %d", id, len(out.NetworkInterfaces))
	}
	found := out.NetworkInterfaces[0]
	own := slices.ContainsFunc(found.TagSet, func(t types.Tag) bool {
		return aws.ToString(t.Key) == ownerTag && aws.ToString(t.Value) == inv.InstanceID
	})
	if !own || !pool.WithdrawENI(id) {
		return false, nil
	}
	e.leaving[id] = e.opts.Now()
	if _, err := e.client.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{
		AttachmentId: found.Attachment.AttachmentId,
	}); err != nil {
		return false, fmt.Errorf("EC2: detach %s: %w", id, err)
	}
	e.detached[id] = true
	e.opts.Log.Info("EC2: detached", "eni", id)
	return true, nil
}

// deleteDetached deletes detached ENIs. EC2 refuses that until an ENI is completely detached; then it is tried again
// next time.
func (e *EC2) deleteDetached(ctx context.Context) {
	for id := range e.detached {
		_, err := e.client.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id})
		var api smithy.APIError
		if err == nil || errors.As(err, &api) && api.ErrorCode() == "InvalidNetworkInterfaceID.NotFound" {
			delete(e.detached, id)
			continue
		}
		e.opts.Log.Debug("EC2: ENI not deleted yet", "eni", id, "error", err)
	}
}
