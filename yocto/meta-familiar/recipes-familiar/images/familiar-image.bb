SUMMARY = "An image that boots, proves its models and watches: familiar and nothing else"
DESCRIPTION = "Read-only root, a data partition for what the device must remember, chrony for the time, nobody who can log in. The image feature familiar-broker adds Mosquitto, for a device without a broker on its network."
SECTION = "images"
LICENSE = "Apache-2.0"

inherit core-image features_check

REQUIRED_DISTRO_FEATURES = "systemd seccomp"

# nooelint: oelint.vars.mispell.unknown - an image feature of our own
FEATURE_PACKAGES_familiar-broker = "mosquitto mosquitto-clients"
IMAGE_FEATURES[validitems] += "familiar-broker"
IMAGE_FEATURES += "read-only-rootfs"

IMAGE_INSTALL = "\
    packagegroup-core-boot \
    chrony \
    chronyc \
    familiar \
    familiar-bundle \
    familiar-chrony \
    familiar-data \
    e2fsprogs-e2fsck \
    e2fsprogs-mke2fs \
    kernel-modules \
    tzdata-core \
"
IMAGE_LINGUAS = ""

# No account has a password and there is no SSH. A developer's image adds `empty-root-password` or a key in an image of its own.
ROOTFS_POSTPROCESS_COMMAND += "familiar_nobody_logs_in"
familiar_nobody_logs_in() {
    if [ "${@bb.utils.contains_any('IMAGE_FEATURES', 'empty-root-password allow-empty-password serial-autologin-root', '1', '0', d)}" = 1 ]; then
        bbwarn "familiar-image: its features let somebody log in without a password"
    elif grep -Ev '^[^:]+:[!*]' ${IMAGE_ROOTFS}${sysconfdir}/shadow; then
        bbfatal "familiar-image: the accounts above can log in"
    fi
}

# What the device must remember lies on a partition of its own. `x-systemd.makefs` gives it a file system where it has none.
FAMILIAR_DATA_DEVICE ?= "/dev/disk/by-label/familiar-data"
ROOTFS_POSTPROCESS_COMMAND += "familiar_mount_data"
familiar_mount_data() {
    echo "${FAMILIAR_DATA_DEVICE} /data ext4 nodev,nosuid,noexec,x-systemd.makefs 0 2" >> ${IMAGE_ROOTFS}${sysconfdir}/fstab
}

# Where wic makes the disk, it makes that partition too. A Jetson's flashing tool does not: see FAMILIAR_DATA_DEVICE in kas/jetson.yml.
# nooelint: oelint.vars.mispell.unknown - our own, read by files/wic
FAMILIAR_DATA_SIZE ?= "512M"
# nooelint: oelint.vars.specific - `rpi` stands for all machines of meta-raspberrypi
WKS_FILE:rpi = "familiar-raspberrypi.wks.in"
WKS_FILE:qemuarm64 = "familiar-qemu.wks.in"
IMAGE_FSTYPES:qemuarm64 = "wic.zst"
