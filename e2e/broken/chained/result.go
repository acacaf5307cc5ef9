package main

import "net"

func forgetInterfaces(c *call) error {
	c.result.Interfaces = nil
	for _, ip := range c.result.IPs {
		ip.Interface = nil
	}
	return nil
}

func shiftAddresses(c *call) error {
	for _, ip := range c.result.IPs {
		shifted := append(net.IP{}, ip.Address.IP...)
		shifted[len(shifted)-1] ^= 0x80
		ip.Address.IP = shifted
	}
	return nil
}
