export { libvirtDriver } from './drivers/libvirt/libvirt-driver.ts';
