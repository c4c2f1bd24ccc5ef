/* The last 512 bytes of a BIOS: from the reset vector through protected mode, on from memory above 1 MiB, into long
 * mode, through a breakpoint and a page fault and back, then one value to QEMU's isa-debug-exit. A host whose KVM opens
 * but cannot run a guest gets stuck on the way. Each step is needed: a nested KVM was seen that came into long mode with
 * every CPU model but one and never came back from the breakpoint, where a kernel hung as well.
 *
 * The bytes are committed in accel_rom.c; a test assembles this file again and compares:
 *   as --64 -o rom.o vmm/accel_rom.S && objcopy -O binary -j .text rom.o rom.bin
 *
 * The firmware's last 64 KiB stand at 0xf0000 as well, so that is where it starts. All addresses are made from
 * distances within this section, so nothing is left to a linker. Source: Intel SDM volume 3, sections 9.9, 9.8.5 and 6.14. */

        .set    SEGMENT, 0xf000
        .set    BASE, 0xffe00           /* of this section */
        .set    OFFSET, 0xfe00          /* of this section in SEGMENT */
        .set    TABLES, 0x1000          /* three pages of guest memory: PML4, PDPT, PD */
        .set    COPY, 0x100000          /* of this section in guest memory, above what a BIOS occupies */
        .set    STACK, 0x8000           /* grows down */
        .set    VECTORS, 0x5000         /* 16 gates of 16 bytes */
        .set    FAULT, 0x40000000       /* an address that is not mapped */
        .set    CODE32, 0x08
        .set    CODE64, 0x10
        .set    DATA, 0x18
        .set    EXIT_PORT, 0xf4         /* ACCEL_ROM_EXIT_PORT */
        .set    EXIT_VALUE, 0x2a        /* ACCEL_ROM_EXIT_VALUE */

        .text
start:
        .code16
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   OFFSET + gdt_pointer - start
        mov     %cr0, %eax
        or      $1, %eax                /* PE */
        mov     %eax, %cr0
        ljmpl   $CODE32, $(BASE + protected - start)

        .code32
protected:
        mov     $DATA, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        cld
        xor     %eax, %eax
        mov     $TABLES, %edi
        mov     $(3 * 4096 / 4), %ecx
        rep stosl
        mov     $BASE, %esi             /* from here on as a kernel does: in memory that can be written */
        mov     $COPY, %edi
        mov     $512, %ecx
        rep movsb
        ljmpl   $CODE32, $(COPY + copied - start)
copied:
        movl    $(TABLES + 0x1003), TABLES              /* present, writable */
        movl    $(TABLES + 0x2003), TABLES + 0x1000
        movl    $0x83, TABLES + 0x2000                  /* the first 2 MiB, as one page */
        mov     %cr4, %eax
        or      $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     $TABLES, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER */
        rdmsr
        or      $0x100, %eax            /* LME */
        wrmsr
        mov     %cr0, %eax
        or      $0x80000000, %eax       /* PG */
        mov     %eax, %cr0
        ljmpl   $CODE64, $(COPY + long - start)

        .code64
long:
        mov     $STACK, %esp
        mov     $(COPY + on_breakpoint - start), %eax
        mov     $VECTORS + 3 * 16, %edi
        call    set_gate
        mov     $(COPY + on_page_fault - start), %eax
        mov     $VECTORS + 14 * 16, %edi
        call    set_gate
        lidt    vectors_pointer(%rip)
        movabs  $(EXIT_VALUE << 32), %rbx               /* each handler moves it by 16 bits */
        int3
        mov     FAULT, %eax
after_fault:
        mov     %rbx, %rax
        mov     $EXIT_PORT, %edx
        out     %eax, %dx
stop:
        hlt
        jmp     stop

/* One interrupt gate at %edi to the handler at %eax. */
set_gate:
        movw    %ax, (%rdi)
        movw    $CODE64, 2(%rdi)
        movw    $0x8e00, 4(%rdi)        /* present, 64-bit interrupt gate */
        shr     $16, %eax
        movw    %ax, 6(%rdi)
        movq    $0, 8(%rdi)
        ret

on_breakpoint:
        shr     $16, %rbx
        iretq

on_page_fault:
        shr     $16, %rbx
        add     $8, %rsp                /* error code */
        movq    $(COPY + after_fault - start), (%rsp)
        iretq

        /* Accessed bits are set beforehand: the processor could not write them here. */
        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* CODE32 */
        .quad   0x00af9b000000ffff      /* CODE64 */
        .quad   0x00cf93000000ffff      /* DATA */
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   BASE + gdt - start
vectors_pointer:
        .word   16 * 16 - 1
        .quad   VECTORS

        .org    0x1f0, 0xf4             /* the reset vector, 16 bytes below the end */
        .code16
        ljmp    $SEGMENT, $OFFSET
        .org    0x200, 0xf4
